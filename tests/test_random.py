"""Random directions: what they are, however they are read."""

import math

import numpy as np
import pytest
from files import rows, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from geomsae.errors import SourceError
from geomsae.sources import RandomDecoder, Wanted, find


@settings(max_examples=40)
@given(
    n=st.integers(1, 3000),
    d=st.integers(1, 24),
    seed=st.integers(0, 2**63),
    block=st.integers(1, 4000),
)
def test_random_directions_do_not_depend_on_how_they_are_read(n, d, seed, block):
    decoder = RandomDecoder(n, d, seed)
    whole = decoder.read(0, n)
    assert same_bits(rows(decoder, block), whole)
    start = block % n
    assert same_bits(decoder.read(start, n), whole[start:])
    assert same_bits(RandomDecoder(n + 1500, d, seed).read(0, n), whole)


def test_random_directions_are_standard_normal():
    n, d = 4000, 64
    values = RandomDecoder(n, d, seed=5).read(0, n).astype(np.float64)
    squares = (values**2).sum(axis=1)
    assert abs(squares.mean() - d) < 5 * math.sqrt(2 * d / n)
    assert 0.9 < squares.var() / (2 * d) < 1.1
    assert abs(values.mean()) < 5 / math.sqrt(n * d)
    unit = values / np.sqrt(squares)[:, None]
    cosines = (unit @ unit.T)[np.tril_indices(n, -1)]
    assert abs(cosines.mean()) < 5 / math.sqrt(len(cosines) * d)
    assert 0.99 < cosines.var() * d < 1.01


def test_another_seed_or_row_or_width_gives_other_directions():
    drawn = [RandomDecoder(2048, 8, seed).read(0, 2048) for seed in (0, 1)]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 2 * 2048
    assert not np.isclose(RandomDecoder(1, 7).read(0, 1), drawn[0][:1, :7]).all()


def test_random_directions_are_found_by_their_name():
    (offer,) = find("random:100x16", Wanted(seed=3))
    assert offer.labels.id == "random/gaussian/100x16_seed_3"
    assert offer.nbytes == 4 * 100 * 16
    assert same_bits(rows(offer.open()), RandomDecoder(100, 16, 3).read(0, 100))


@pytest.mark.parametrize("name", ["random:0x4", "random:4x0"])
def test_random_directions_need_rows_and_columns(name):
    with pytest.raises(SourceError, match="at least one row"):
        find(name)
