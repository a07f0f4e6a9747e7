"""Stores that are no folder: whole or not at all, without a rename."""

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
import xarray as xr
from conftest import json_of, run_geomsae
from in_memory import ID, OTHER, objects_beside

import geomsae
from geomsae.errors import StoreError, UnreachableError
from geomsae.store.upload import Upload


def shown(address):
    """What plain xarray finds in a store: the values of every variable, by path."""
    tree = xr.open_datatree(address, engine="zarr", consolidated=False)
    return {
        f"{node.path}/{name}": variable.values
        for node in tree.subtree
        for name, variable in node.variables.items()
    }


def test_it_holds_what_a_local_store_holds(remote, local, cache):
    for store in (remote, local):
        list(geomsae.compute_histograms(store))
    expected, found = shown(local.location), shown(remote.location)
    assert set(found) == set(expected)
    for path, values in expected.items():
        assert found[path].tobytes() == values.tobytes(), path
    assert objects_beside(remote.location) == []
    assert list(cache.iterdir()) == []


def test_every_verb_works(remote, tmp_path):
    words = ["--store", remote.location]
    assert len(json_of("plan", *words, cwd=tmp_path)) == 2
    run_geomsae("histogram", *words, cwd=tmp_path)
    assert [row["id"] for row in json_of("ls", *words, cwd=tmp_path)] == [OTHER, ID]
    assert len(json_of("tails", *words, cwd=tmp_path)) == 2
    assert len(json_of("compare", ID, OTHER, *words, cwd=tmp_path)) == 1
    run_geomsae("neighbours", ID, *words, cwd=tmp_path)
    run_geomsae("verify", *words, cwd=tmp_path)
    run_geomsae("report", *words, cwd=tmp_path)
    assert (tmp_path / "store-report").is_dir()


class CutError(Exception):
    """The end of everything, after so many files."""


def cut_after(monkeypatch, files):
    """Have this process write so many more files, and then none."""
    left = files
    filesystem = type(fsspec.filesystem("memory"))
    right = filesystem.put_file
    lock = threading.Lock()

    def put_file(self, *arguments, **options):
        nonlocal left
        with lock:
            left -= 1
            if left < 0:
                raise CutError
        return right(self, *arguments, **options)

    monkeypatch.setattr(filesystem, "put_file", put_file)


@pytest.mark.parametrize("files", range(5))
def test_a_decoder_that_is_half_there_is_not_there(address, local, monkeypatch, files):
    store = geomsae.open_store(address, create=True)
    list(geomsae.convert("random:50x16", store))
    before = shown(address)
    with monkeypatch.context() as patch:
        cut_after(patch, files)
        with pytest.raises(UnreachableError):
            list(geomsae.convert("random:60x16", store))
    assert list(geomsae.open_store(address).decoders) == [OTHER]
    with warnings.catch_warnings():  # that a folder is no group
        warnings.simplefilter("ignore")
        after = shown(address)
        tree = xr.open_datatree(address, engine="zarr", consolidated=False)
    expected = shown(local.location)
    for path in set(after) - set(before):  # arrays are whole, and their group is called unfinished
        assert after[path].tobytes() == expected[path].tobytes()
    assert ID not in tree or tree[ID].attrs == {"status": "unfinished"}
    assert [o.added for o in geomsae.convert("random:60x16", store.refresh())] == [True]
    assert {path: values.tobytes() for path, values in shown(address).items()} == {
        path: values.tobytes() for path, values in expected.items()
    }


def test_what_could_not_be_brought_is_not_fetched_again(address, cache, monkeypatch):
    store = geomsae.open_store(address, create=True)
    monkeypatch.setattr("geomsae.sources.random.RandomDecoder.remote", True)
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(UnreachableError):
            list(geomsae.convert("random:60x16", store))
    (chunk,) = cache.rglob("W_dec/c/0/0")
    written = chunk.stat().st_mtime_ns
    put = type(store.hierarchy.fs).put_file
    times = []

    def put_file(self, file, *others, **options):
        times.append(os.stat(file).st_mtime_ns)
        return put(self, file, *others, **options)

    monkeypatch.setattr(type(store.hierarchy.fs), "put_file", put_file)
    assert [outcome.added for outcome in geomsae.convert("random:60x16", store)] == [True]
    assert written in times
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("files", [0, 5, 11, 20])
def test_features_made_anew_are_whole_or_not_there(remote, monkeypatch, files):
    list(geomsae.compute_histograms(remote, [ID], thresholds=(0.1,), neighbours=3))
    with monkeypatch.context() as patch:
        cut_after(patch, files)
        with pytest.raises(UnreachableError):
            list(geomsae.compute_histograms(remote, [ID]))
    assert remote.asked_before(ID, 2000, "float32") is None
    with pytest.raises(StoreError, match="knows nothing"):
        remote.features(ID)
    list(geomsae.compute_histograms(remote, [ID]))
    assert remote.features(ID)["degree"].sizes["threshold"] == 4
    assert remote.histograms().sizes["dictionary"] == 1


def test_a_group_above_others_keeps_them_in_sight(address, monkeypatch):
    store = geomsae.open_store(address, create=True)
    list(geomsae.convert("random:60x16", store))
    below = store.decoders[ID]
    # What is made for the groups above a new one is never written over a dictionary that is there.
    upload = Upload(store.hierarchy.fs, store.hierarchy.root, address)
    upload.create(f"{ID}/zarr.json", b"{}")
    assert store.refresh().decoders[ID] == below


def test_two_decoders_of_one_id_are_never_mixed(address, matrix):
    from geomsae.sources import Wanted

    rows = np.random.default_rng(1).standard_normal((2, 40, 8)).astype(np.float32)
    files = [matrix(rows[number], f"{number}.npy") for number in range(2)]
    stores = [geomsae.open_store(address, create=True) for _ in files]
    with ThreadPoolExecutor(2) as pool:
        ids = list(
            pool.map(lambda f, s: next(geomsae.convert(f, s, Wanted(model="m"))).id, files, stores)
        )
    opened = geomsae.open_store(address)
    assert sorted(opened.decoders) == sorted(ids)
    assert len(set(ids)) == 2
    for number, id in enumerate(ids):
        assert (opened.decoder(id).values == rows[number]).all()


def test_rows_that_are_missing_elsewhere_are_not_counted(remote):
    remote.hierarchy.fs.rm_file(f"{remote.hierarchy.root}/{ID}/W_dec/c/0/0")
    with pytest.raises(StoreError, match="missing"):
        list(geomsae.compute_histograms(remote, [ID]))
