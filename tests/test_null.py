"""The isotropic law, against sixty digits, quadrature, closed forms and draws."""

from decimal import Decimal, localcontext

import dask
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

import geomsae
from geomsae.analysis.null import (
    expected_counts,
    isotropic_log_tail,
    isotropic_share,
    isotropic_tail,
    sampled_tail_spread,
    with_expected,
)
from geomsae.bins import edges, tail_bins
from geomsae.errors import GeomsaeError, ThresholdError

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def exact_tail(d, threshold):
    """P(|c| >= t) in decimal arithmetic: a series for the integral, B(a, 1/2) by its recurrence."""
    with localcontext(prec=60):
        t, half = Decimal(float(threshold)), Decimal("0.5")
        x, a = 1 - t * t, Decimal(d - 1) / 2
        b, beta = (half, PI) if d % 2 == 0 else (Decimal(1), Decimal(2))
        while b < a:
            beta *= b / (b + half)
            b += 1
        term, total, k = Decimal(1), Decimal(0), 0
        while term > total * Decimal("1e-30"):
            total += term * a / (a + k)
            term *= (half + k) / (k + 1) * x
            k += 1
        return (a * x.ln()).exp() / (a * beta) * total


def integrated(d, left, right):
    """Integral of the density (1 - c^2)^((d - 3) / 2) over each bin, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    middle, half = (left + right) / 2, (right - left) / 2
    c = middle[:, None] + half[:, None] * nodes
    scale = gammaln(d / 2) - gammaln((d - 1) / 2) - np.log(np.pi) / 2
    return (np.exp(scale + (d - 3) / 2 * np.log1p(-(c**2))) @ weights) * half


@pytest.mark.parametrize("d", [2, 3, 4, 17, 256, 2304, 3584, 16384])
@pytest.mark.parametrize("t", [0.05, 0.1, 0.25, 0.5, 0.67, 0.9, 0.999])
def test_the_tail_has_twelve_digits_and_its_logarithm_never_ends(d, t):
    exact = exact_tail(d, t)
    if exact > Decimal("1e-300"):
        assert isotropic_tail(d, t) == pytest.approx(float(exact), rel=2e-12, abs=0)
    assert isotropic_log_tail(d, t) == pytest.approx(float(exact.ln()), rel=1e-13, abs=2e-12)


def test_the_tail_where_sampled_baselines_are_empty():
    assert isotropic_tail(2304, 0.1) == pytest.approx(1.5055e-6, rel=1e-4)
    assert isotropic_tail(3584, 0.1) == pytest.approx(1.9678e-9, rel=1e-4)
    assert isotropic_tail(2304, 0.67) == pytest.approx(2.6379e-300, rel=1e-4)
    assert isotropic_tail(2304, 0.9) == 0
    assert isotropic_log_tail(2304, 0.9) < -1900


@pytest.mark.parametrize("d", [1, 2, 3, 100])
def test_the_ends_of_the_tail(d):
    assert isotropic_tail(d, 0) == 1
    assert isotropic_log_tail(d, 0) == 0
    assert isotropic_tail(d, 1) == (1 if d == 1 else 0)
    assert isotropic_log_tail(d, 1) == (0 if d == 1 else -np.inf)


@pytest.mark.parametrize("d", [3, 4, 64, 384, 2304, 16384])
@pytest.mark.parametrize("bins", [2000, 999])
def test_every_bin_is_right_in_relative_terms(d, bins):
    share = isotropic_share(d, edges(bins))
    # Near the ends the density in four dimensions is no polynomial, as quadrature wants it.
    there = abs(edges(bins)[:-1] + 1 / bins) < (1 if d > 4 else 0.99)
    expected = integrated(d, edges(bins)[:-1], edges(bins)[1:])
    there &= expected > 1e-300
    np.testing.assert_allclose(share[there], expected[there], rtol=2e-10)
    assert (share[expected < 1e-305] <= 1e-300).all()


def test_the_share_of_a_plane_is_the_arcsine_law():
    share = isotropic_share(2, edges(2000))
    np.testing.assert_allclose(share, np.diff(np.arcsin(edges(2000))) / np.pi, rtol=1e-10)


def test_on_a_line_every_cosine_is_at_an_end():
    assert isotropic_share(1, edges(5)).tolist() == [0.5, 0, 0, 0, 0.5]
    assert isotropic_share(1, edges(2)).tolist() == [0.5, 0.5]
    assert isotropic_share(1, [-1, 1]).tolist() == [1]
    assert isotropic_share(1, [-0.5, 0, 0.5]).tolist() == [0, 0]


@given(st.integers(1, 5000), st.integers(2, 3000))
def test_shares_add_up(d, bins):
    share = isotropic_share(d, edges(bins))
    assert (share >= 0).all()
    assert share.sum() == pytest.approx(1, rel=1e-11)
    np.testing.assert_array_equal(share, share[::-1])
    for t in edges(bins)[bins // 2 + bins % 2 : -1 : max(1, bins // 7)]:
        tail = share[tail_bins(bins, t)].sum()
        assert tail == pytest.approx(isotropic_tail(d, t), rel=1e-9, abs=1e-300)


@given(st.integers(2, 300), st.lists(st.floats(-1, 1), min_size=2, max_size=9, unique=True))
def test_unequal_bins_agree_with_the_beta_distribution(d, ends):
    ends = np.sort(ends)
    if (np.diff(ends) < 1e-6).any():
        return
    law = scipy.stats.beta((d - 1) / 2, (d - 1) / 2, loc=-1, scale=2)
    np.testing.assert_allclose(isotropic_share(d, ends), np.diff(law.cdf(ends)), atol=1e-11)


@pytest.mark.parametrize("ends", [[0.5], [0.5, 0.1], [0, 0, 1], [-2, 0, 1], [[0, 1], [0, 1]]])
def test_edges_that_are_none_are_refused(ends):
    with pytest.raises(GeomsaeError, match="rise"):
        isotropic_share(3, ends)


@pytest.mark.parametrize("asked", [(0, 0.1), (-3, 0.1)])
def test_no_dimensions_are_refused(asked):
    for function in (isotropic_tail, isotropic_log_tail, lambda d, t: isotropic_share(d, [0, t])):
        with pytest.raises(GeomsaeError, match="dimensions"):
            function(*asked)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan])
def test_thresholds_that_are_no_cosine_are_refused(threshold):
    with pytest.raises(ThresholdError):
        isotropic_tail(3, threshold)
    with pytest.raises(ThresholdError):
        sampled_tail_spread(5, 3, threshold)


def test_random_directions_fill_their_bins_as_expected():
    w = np.random.default_rng(1).standard_normal((3000, 50))
    hist = geomsae.cosine_histogram(w, bins=200).compute()
    expected = expected_counts(hist, d_model=50)
    assert float(expected.sum()) == pytest.approx(int(hist["n_pairs"]), rel=1e-12)
    often = expected > 5
    assert int(often.sum()) > 100
    # Pairs are independent in pairs, so that each bin varies as if all of them were.
    score = (hist["count"] - expected) / expected**0.5
    assert float(abs(score.where(often)).max()) < 5
    assert float((score.where(often) ** 2).mean()) == pytest.approx(1, abs=0.5)


def test_expected_counts_are_labelled_like_the_counts(store):
    list(geomsae.compute_histograms(store))
    hist = store.histograms()
    both = with_expected(hist)
    expected = both["expected"]
    assert expected.dims == hist["count"].dims
    assert expected.dtype == np.float64
    assert set(expected.coords) == set(hist["count"].coords)
    assert expected.identical(expected_counts(hist))
    assert both.drop_vars("expected").identical(hist)
    np.testing.assert_allclose(expected.sum("cosine"), hist["n_pairs"], rtol=1e-12)
    assert both.sel(layer=[5, 10], variant="pt")["expected"].sizes["dictionary"] == 2
    one = hist.isel(dictionary=2)
    np.testing.assert_array_equal(expected_counts(one), expected[2])
    some = hist.sel(cosine=slice(0.1, 0.4)).transpose("cosine", "dictionary")
    part = expected_counts(some)
    assert part.dims == ("cosine", "dictionary")
    np.testing.assert_array_equal(part, expected.sel(cosine=slice(0.1, 0.4)).T)
    np.testing.assert_allclose(
        expected_counts(hist.isel(dictionary=slice(0, 0))).shape, (0, hist.sizes["cosine"])
    )


def test_dictionaries_of_different_spaces_each_have_their_own_law(tmp_path):
    store = geomsae.open_store(tmp_path / "s", create=True)
    for name in ("random:90x3", "random:70x2", "random:80x3"):
        list(geomsae.convert(name, store))
    list(geomsae.compute_histograms(store))
    hist = store.histograms()
    expected = expected_counts(hist)
    assert sorted(hist["d_model"].values) == [2, 3, 3]
    for number, d in enumerate(hist["d_model"].values):
        share = isotropic_share(int(d), edges())
        np.testing.assert_allclose(expected[number], share * int(hist["n_pairs"][number]))
    fewer = expected_counts(hist, d_model=2)
    np.testing.assert_allclose(fewer, hist["n_pairs"].values[:, None] * isotropic_share(2, edges()))


def test_expected_counts_are_lazy_and_want_the_dimensions():
    hist = geomsae.cosine_histogram(np.eye(4), bins=10)
    with pytest.raises(GeomsaeError, match="d_model="):
        expected_counts(hist)
    expected = expected_counts(hist, d_model=4)
    assert dask.is_dask_collection(expected)
    np.testing.assert_allclose(expected.compute(), 6 * isotropic_share(4, edges(10)))
    labelled = hist.assign_coords(d_model=4)
    np.testing.assert_array_equal(expected_counts(labelled), expected)


@pytest.mark.parametrize(("n", "d", "t"), [(40, 6, 0.5), (25, 2, 0.9), (30, 3, 0.2)])
def test_the_number_of_tail_pairs_varies_as_it_should(n, d, t):
    rng = np.random.default_rng(n)
    draws = 3000
    rows = rng.standard_normal((draws, n, d))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    upper = np.triu_indices(n, 1)
    beyond = abs(np.einsum("sid,sjd->sij", rows, rows)[:, *upper]) >= t
    counts = beyond.sum(axis=1)
    expected, deviation = sampled_tail_spread(n, d, t)
    assert abs(counts.mean() - expected) < 5 * deviation / draws**0.5
    assert counts.std() == pytest.approx(deviation, rel=0.1)


def test_the_spread_where_nothing_or_everything_is_in_the_tail():
    assert sampled_tail_spread(100, 1, 0.3) == (4950, 0)
    assert sampled_tail_spread(1, 5, 0.3) == (0, 0)
    expected, deviation = sampled_tail_spread(16384, 3584, 0.1)
    assert expected == pytest.approx(0.2641, rel=1e-3)
    assert deviation == pytest.approx(expected**0.5, rel=1e-6)  # rare pairs: as Poisson's law
