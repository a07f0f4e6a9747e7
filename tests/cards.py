"""The cards that the tests of the GPU count on: a real one where there is one, and one emulated."""

from __future__ import annotations

import platform
import shutil
import sys

import pytest
from emulation import cupy as emulated

from geomsae.pairs.gpu import card as card_module
from geomsae.pairs.gpu import counter, launch, panels, product

_REMEMBERED = [
    card_module._pool,
    counter._streams,
    launch._kernel,
    launch._module,
    product._cublas,
    product._words,
    panels._stream,
]

NO_EMULATION = shutil.which("g++") is None or platform.machine() != "x86_64"


def forget_cards():
    """Have everything asked anew that is remembered of a card."""
    for remembered in _REMEMBERED:
        remembered.cache_clear()
    panels._local.__dict__.clear()


@pytest.fixture
def emulate(monkeypatch):
    """Put a card that is not there into this machine, with properties that are given."""
    yield lambda **properties: put_in(monkeypatch, **properties)
    forget_cards()


@pytest.fixture
def no_card(monkeypatch):
    """Leave this machine without a card."""
    forget_cards()
    monkeypatch.setitem(sys.modules, "cupy", None)


def put_in(monkeypatch, **properties):
    """Put a card that is not there into this machine."""
    if NO_EMULATION:
        pytest.skip("the kernels are emulated by g++ on x86-64, and that is not here")
    forget_cards()
    cupy, cuda = emulated.module(**properties)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    return cupy


def real_card():
    """Skip unless there is a card."""
    forget_cards()
    if not card_module.available():
        pytest.skip("there is no GPU here")


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)], scope="module")
def card(request):
    """Each of the cards in turn; afterwards none is remembered."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "real":
            real_card()
        else:
            put_in(patch)
        yield request.param
    forget_cards()
