from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomsae import bins as bin_rule
from geomsae.errors import GeomsaeError, ThresholdError
from geomsae.pairs import cpu

BINS = st.integers(2, 5000)


@given(BINS, st.data())
def test_an_edge_is_the_double_nearest_to_its_fraction(bins, data):
    k = data.draw(st.integers(0, bins))
    assert bin_rule.edges(bins)[k] == float(Fraction(2 * k - bins, bins))


def test_every_threshold_with_three_decimals_is_an_edge_of_2000_bins():
    edges = bin_rule.edges()
    for k in range(-1000, 1001):
        assert edges[k + 1000] == k / 1000


@given(BINS, st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50))
def test_the_kernel_puts_a_float32_where_its_edges_say(bins, values):
    row = np.array([values], np.float32)
    counts = np.zeros(bins, np.int64)
    cpu._bin(row, row.size, counts)
    number = np.searchsorted(bin_rule.edges(bins), row[0].astype(np.float64), "right") - 1
    assert (counts == np.bincount(np.minimum(number, bins - 1), minlength=bins)).all()


@given(BINS, st.sampled_from([-1.5, -1 - 1e-6, 1 + 1e-6, 1.5]))
def test_what_rounding_pushed_out_is_counted_at_that_end(bins, value):
    counts = np.zeros(bins, np.int64)
    cpu._bin(np.array([[value]], np.float32), 1, counts)
    assert counts[0 if value < 0 else -1] == 1
    assert counts.sum() == 1


@given(BINS, st.data())
def test_a_tail_is_the_bins_outside_its_threshold(bins, data):
    edges = bin_rule.edges(bins)
    k = data.draw(st.integers(bins // 2 + bins % 2, bins - 1))
    inside = bin_rule.tail_bins(bins, edges[k])
    assert (inside == ((edges[:-1] >= edges[k]) | (edges[1:] <= -edges[k]))).all()


def test_a_threshold_inside_a_bin_is_refused_with_the_nearest_edges():
    with pytest.raises(ThresholdError, match=r"0\.123, 0\.124"):
        bin_rule.tail_bins(2000, 0.1234)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 2.0, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(ThresholdError):
        bin_rule.tail_bins(2000, threshold)


@pytest.mark.parametrize("bins", [-1, 0, 1, 10**7])
def test_a_number_of_bins_that_cannot_be_counted_is_refused(bins):
    with pytest.raises(GeomsaeError, match="bins"):
        bin_rule.edges(bins)
