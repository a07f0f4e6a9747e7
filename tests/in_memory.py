"""Stores in the memory of this process, which is reached as a store of objects is."""

from __future__ import annotations

import fsspec
import pytest

import geomsae

ID = "random/gaussian/60x16_seed_0"
OTHER = "random/gaussian/50x16_seed_0"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder where unfinished work for stores elsewhere goes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geomsae"


@pytest.fixture
def address(request, cache):
    """An address in the memory of this process."""
    yield f"memory://{request.node.name}/a/store"
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def remote(address):
    """A store of two dictionaries in memory."""
    return _filled(address)


@pytest.fixture
def local(tmp_path):
    """The same store on the disk."""
    return _filled(tmp_path / "store")


def _filled(place):
    store = geomsae.open_store(place, create=True)
    list(geomsae.convert("random:60x16", store))
    list(geomsae.convert("random:50x16", store))
    return store


def objects_beside(address):
    """What lies where claims on a store in memory are made."""
    return fsspec.filesystem("memory").find(f"{address.removeprefix('memory:/')}-work")
