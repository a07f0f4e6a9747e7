"""What several tests need: small stores, the real dictionaries, the command line."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cards import card, emulate, no_card  # noqa: F401 - fixtures
from click.testing import CliRunner
from hypothesis import settings
from in_memory import address, cache, local, remote  # noqa: F401 - fixtures

import geomsae
from geomsae.cli import main
from geomsae.sources import Wanted

settings.register_profile("geomsae", deadline=None)  # the first call compiles
settings.load_profile("geomsae")

REAL = Path(__file__).parents[2] / "shared" / "real"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Hide a card that is here from all tests but those of one: they are about the processor."""
    if {"card", "emulate"} & {*getattr(item, "fixturenames", ())}:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # to the commands that a test starts
        return (yield)


@pytest.fixture
def real() -> Path:
    """The folder of small real dictionaries."""
    if not REAL.exists():
        pytest.skip("the real dictionaries are not here")
    return REAL


@pytest.fixture
def matrix(tmp_path):
    """Write a matrix to a file and say where."""

    def write(rows, name="w.npy"):
        path = tmp_path / name
        np.save(path, rows)
        return str(path)

    return write


@pytest.fixture
def store(tmp_path, matrix):
    """A store of four small dictionaries of one model, two variants and three layers."""
    made = geomsae.open_store(tmp_path / "store", create=True)
    for seed, (variant, layer) in enumerate([("pt", 0), ("pt", 5), ("pt", 10), ("it", 5)]):
        rows = np.random.default_rng(seed).standard_normal((60 + seed, 16)).astype(np.float32)
        wanted = Wanted(
            model="gpt", variant=variant, layer=str(layer), width="64", l0=str(40 + layer)
        )
        list(geomsae.convert(matrix(rows, f"{seed}.npy"), made, wanted))
    return made


def run_geomsae(*words, cwd, env=None, status=0):
    """Run the command line in this process; return what it printed on stdout and on stderr."""
    with contextlib.chdir(cwd):
        result = CliRunner().invoke(main, [str(word) for word in words], env=env)
    assert result.exit_code == status, result.output
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result.stdout, result.stderr


def json_of(*words, **options):
    """Run the command line with ``--json`` and read what it printed."""
    return json.loads(run_geomsae(*words, "--json", **options)[0])
