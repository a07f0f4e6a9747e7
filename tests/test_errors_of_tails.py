"""Errors and intervals of tail shares, against enumeration, closed forms and simulation."""

from itertools import combinations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import geomsae
from geomsae import cosine_histogram
from geomsae.analysis.null import isotropic_tail
from geomsae.analysis.uncertainty import tail_difference, tail_error
from geomsae.errors import GeomsaeError, SelectionError

NORMAL = 1.959963984540054


def of_degrees(degree, **more):
    """The dataset of degrees, shape (feature,) or (dictionary, feature)."""
    dims = ("dictionary", "feature")[-np.ndim(degree) :]
    return xr.Dataset({"degree": (dims, np.asarray(degree))}, **more)


def as_often_as_said(covered):
    """Whether a coverage between 93 and 97 % explains how often the truth was covered."""
    least = binom.ppf(1e-3, covered.size, 0.93)
    most = binom.ppf(1 - 1e-3, covered.size, 0.97)
    return least <= covered.sum() <= most


def covers(found, truth):
    return ((found["lower"] <= truth) & (truth <= found["upper"])).values


def normal_covers(found, truth):
    return (abs(found["tail_fraction"] - truth) <= NORMAL * found["standard_error"]).values


def groups_of_features(weights, n, draws, seed):
    """Degrees where a pair is in the tails if both are of one group; the last has no pairs.

    The expected share is the sum of the squared weights of the groups, and what two pairs with a
    common feature have in common, the sum of their cubes.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.multinomial(n, weights, draws)
    degree = np.zeros((draws, n), np.int64)
    for row, of in zip(degree, sizes, strict=True):
        row[: of[:-1].sum()] = np.repeat(of[:-1] - 1, of[:-1])
    return degree


@st.composite
def graphs(draw):
    n = draw(st.integers(4, 8))
    edges = draw(st.lists(st.booleans(), min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2))
    graph = np.zeros((n, n), np.int64)
    graph[np.tril_indices(n, -1)] = edges
    return graph + graph.T


@given(graphs())
@settings(max_examples=60)
def test_the_variance_is_that_of_pairs_of_pairs_enumerated(graph):
    pairs = list(combinations(range(len(graph)), 2))
    share = np.mean([graph[pair] for pair in pairs])
    apart = [graph[one] * graph[two] for one in pairs for two in pairs if not {*one} & {*two}]
    variance = max(share**2 - np.mean(apart), share * (1 - share) / len(pairs))
    found = tail_error(of_degrees(graph.sum(axis=0)))
    assert found["tail_fraction"].item() == pytest.approx(share, abs=1e-12)
    assert found["standard_error"].item() == pytest.approx(variance**0.5, abs=1e-7)
    assert 0 <= found["lower"] <= found["tail_fraction"] <= found["upper"] <= 1


def test_the_variance_is_free_of_bias_where_its_expectation_is_known():
    n, weights = 60, np.array([0.2, 0.15, 0.65])
    p, common = (weights[:-1] ** 2).sum(), (weights[:-1] ** 3).sum()
    z1, z2 = common - p**2, p * (1 - p)
    variance = (4 * (n - 2) * z1 + 2 * z2) / (n * (n - 1))
    found = tail_error(of_degrees(groups_of_features(weights, n, 4000, 0)))
    squared = found["standard_error"] ** 2
    assert abs(squared.mean() - variance) < 4 * squared.std() / 4000**0.5
    assert found["tail_fraction"].var().item() == pytest.approx(variance, rel=0.1)


def test_the_jackknife_agrees_where_features_are_clustered():
    degree = groups_of_features([0.3, 0.1, 0.6], 2000, 1, 3)[0]
    n, tail = degree.size, degree.sum() / 2
    without = (tail - degree) / ((n - 1) * (n - 2) / 2)
    jackknife = (n - 1) / n * ((without - without.mean()) ** 2).sum()
    error = tail_error(of_degrees(degree))["standard_error"].item()
    assert error == pytest.approx(jackknife**0.5, rel=0.01)


@pytest.mark.parametrize("degree", [2, 6, 399])
def test_equal_degrees_are_as_sure_as_independent_pairs(degree):
    found = tail_error(of_degrees(np.full(400, degree)))
    share = degree / 399
    independent = (share * (1 - share) / (400 * 399 / 2)) ** 0.5
    assert found["standard_error"].item() == pytest.approx(independent)


def test_large_counts_have_the_normal_interval():
    found = tail_error(of_degrees(np.full(20000, 4000)))
    for end, sign in (("lower", -1), ("upper", 1)):
        normal = found["tail_fraction"] + sign * NORMAL * found["standard_error"]
        assert found[end].item() == pytest.approx(normal.item(), rel=1e-6)
    assert found["trusted"]


def test_without_a_tail_pair_the_upper_end_is_exact():
    found = tail_error(of_degrees(np.zeros(2000, int)))
    assert found["tail_fraction"] == found["lower"] == found["standard_error"] == 0
    none = (1 - found["upper"].item()) ** (2000 * 1999 / 2)
    assert none == pytest.approx(0.025, rel=1e-4)
    assert found["effective_pairs"] == 0
    assert not found["trusted"]


def test_the_tails_and_what_is_outside_are_treated_alike():
    degree = groups_of_features([0.05, 0.1, 0.85], 1500, 1, 0)[0]
    tails, outside = (tail_error(of_degrees(d)) for d in (degree, 1499 - degree))
    assert outside["tail_fraction"].item() == pytest.approx(1 - tails["tail_fraction"].item())
    assert outside["lower"].item() == pytest.approx(1 - tails["upper"].item())
    assert outside["upper"].item() == pytest.approx(1 - tails["lower"].item())
    assert outside["effective_pairs"].item() == pytest.approx(tails["effective_pairs"].item())
    assert tail_error(of_degrees(np.full(5, 4)))["upper"] == 1


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_few_features_say_nothing(n):
    found = tail_error(of_degrees(np.full(n, max(n - 1, 0))))
    assert np.isnan(found["standard_error"])
    assert not found["trusted"]
    assert found["effective_pairs"] == 0
    if n < 2:
        assert np.isnan(found["tail_fraction"])
        assert np.isnan(found["lower"])
    else:
        assert (found["tail_fraction"], found["lower"], found["upper"]) == (1, 0, 1)


def test_a_higher_level_is_wider():
    features = of_degrees(groups_of_features([0.1, 0.9], 500, 1, 1)[0])
    narrow, wide = (tail_error(features, level=level) for level in (0.5, 0.99))
    assert wide["lower"] < narrow["lower"] < narrow["upper"] < wide["upper"]
    assert wide.attrs["level"] == 0.99


def directions(n, d, clustered):
    """How to draw features, alone or clustered: 40 % in 16 groups, tight or loose, some opposite.

    The directions of the groups belong to the population, and are the same in every draw.
    """
    centres = np.random.default_rng(1).standard_normal((16, d))

    def draw(seed):
        rng = np.random.default_rng([2, seed])
        rows = rng.standard_normal((n, d))
        if clustered:
            members = np.flatnonzero(rng.random(n) < 0.4)
            loading = rng.uniform(0.25, 0.9, (members.size, 1))
            rows[members] *= np.sqrt(1 - loading**2)
            sign = rng.choice([-1, 1, 1, 1], (members.size, 1))
            rows[members] += sign * loading * centres[rng.integers(0, 16, members.size)]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return draw


def drawn_degrees(draw, draws, thresholds):
    """Degrees of many drawn dictionaries, by whole matrices of cosines in float64."""
    degrees = []
    for seed in range(draws):
        rows = draw(seed)
        size = np.abs(rows @ rows.T)
        np.fill_diagonal(size, 0)
        degrees.append([(size >= t).sum(axis=1) for t in thresholds])
    dims = ("dictionary", "threshold", "feature")
    return xr.Dataset({"degree": (dims, np.array(degrees))}, {"threshold": list(thresholds)})


@pytest.mark.parametrize(
    ("clustered", "thresholds"), [(False, (0.35, 0.5, 0.56)), (True, (0.4, 0.55, 0.7))]
)
def test_intervals_cover_as_often_as_they_say(clustered, thresholds):
    n, d, draws = 500, 48, 300
    found = tail_error(drawn_degrees(directions(n, d, clustered), draws, thresholds))
    share = found["tail_fraction"]
    truth = share.mean("dictionary")
    if not clustered:
        exact = [isotropic_tail(d, t) for t in thresholds]
        np.testing.assert_allclose(truth, exact, rtol=0.1)
        truth = truth.copy(data=exact)
    spread = share.std("dictionary", ddof=1)
    error = (found["standard_error"] ** 2).mean("dictionary") ** 0.5
    np.testing.assert_allclose(error / spread, 1, atol=0.15)
    for number in range(len(thresholds)):
        assert as_often_as_said(covers(found, truth)[:, number])
    if clustered:
        naive = (share * (1 - share) / (n * (n - 1) / 2)) ** 0.5
        alone = (abs(share - truth) <= NORMAL * naive).mean("dictionary")
        assert (alone < 0.85).all()


@pytest.mark.parametrize("weights", [[0.04, 0.96], [0.013] * 3 + [0.961]])
def test_small_counts_are_covered_where_the_normal_interval_fails(weights):
    truth = (np.array(weights[:-1]) ** 2).sum()
    found = tail_error(of_degrees(groups_of_features(weights, 1000, 4000, 5)))
    assert 8 < found["effective_pairs"].median() < 16
    assert as_often_as_said(covers(found, truth))
    assert normal_covers(found, truth).mean() < 0.93 < covers(found, truth).mean()


def test_few_effective_pairs_are_not_trusted():
    weights = [0.002, 0.998]
    found = tail_error(of_degrees(groups_of_features(weights, 2000, 50, 5)))
    assert (found["tail_fraction"] > 0).any()
    assert not found["trusted"].any()
    many = tail_error(of_degrees(groups_of_features([0.3, 0.7], 2000, 50, 5)))
    assert many["trusted"].all()


def test_rows_without_a_direction_do_not_count():
    rows = np.random.default_rng(0).standard_normal((300, 20))
    rows[1:40] += 2 * rows[0]
    holed = np.insert(rows, [3, 100, 100, 300], 0, axis=0)
    alone, among = (cosine_histogram(w, thresholds=[0.3, 0.5]).compute() for w in (rows, holed))
    expected = tail_error(alone)
    assert tail_error(among).identical(expected)
    norm = among.drop_vars("n_excluded").assign_coords(
        norm=("feature", np.linalg.norm(holed, axis=1))
    )
    assert tail_error(norm).identical(expected)
    told = among.drop_vars("n_excluded")
    assert tail_error(told, n_directed=300).identical(expected)
    assert not tail_error(told).equals(expected)
    shares = geomsae.tail_fraction(among, [0.3, 0.5])
    np.testing.assert_allclose(expected["tail_fraction"], shares, rtol=1e-12)


def test_it_is_lazy_if_the_degrees_are():
    w = np.random.default_rng(0).standard_normal((200, 10))
    lazy = tail_error(cosine_histogram(w, thresholds=[0.3, 0.5]))
    assert all(dask.is_dask_collection(lazy[name]) for name in lazy)
    now = tail_error(cosine_histogram(w, thresholds=[0.3, 0.5]).compute())
    xr.testing.assert_allclose(lazy.compute(), now)


def test_dictionaries_are_put_together_with_their_labels(store):
    thresholds = (0.1, 0.3, 0.5)
    list(geomsae.compute_histograms(store, thresholds=thresholds))
    keys = list(store.decoders)
    single = [tail_error(store.features(key)) for key in keys]
    both = xr.concat(single, "dictionary", coords="all")
    assert both["lower"].dims == ("dictionary", "threshold")
    assert both["dictionary"].values.tolist() == keys
    assert set(both["model"].values) == {"gpt"}
    assert both["layer"].values.tolist() == [store.attributes(key)["layer"] for key in keys]
    assert both["trusted"].dtype == bool
    assert both.attrs["level"] == 0.95
    shares = geomsae.tail_fraction(store.histograms().sel(dictionary=keys), thresholds)
    np.testing.assert_allclose(both["tail_fraction"], shares, rtol=1e-12)


def test_many_dictionaries_at_once_give_what_each_gives():
    sizes = (30, 50, 44)
    single = [
        cosine_histogram(np.random.default_rng(n).standard_normal((n, 8)), thresholds=[0.3, 0.5])
        .compute()[["degree", "n_excluded"]]
        .assign_coords(dictionary=str(n))
        for n in sizes
    ]
    expected = xr.concat([tail_error(one) for one in single], "dictionary", coords="all")
    padded = [one.pad(feature=(0, 50 - n)) for one, n in zip(single, sizes, strict=True)]
    found = tail_error(xr.concat(padded, "dictionary", coords="all"))
    xr.testing.assert_allclose(found.transpose(*expected["lower"].dims), expected)


def test_what_has_no_degrees_or_no_level_is_refused():
    w = np.random.default_rng(0).standard_normal((20, 4))
    with pytest.raises(SelectionError, match="thresholds"):
        tail_error(cosine_histogram(w))
    with pytest.raises(SelectionError, match="two dictionaries"):
        tail_error(cosine_histogram(w, w[:5], thresholds=[0.5]))
    for level in (0, 1, 95):
        with pytest.raises(GeomsaeError, match="confidence"):
            tail_error(of_degrees([1, 1]), level=level)


@pytest.mark.parametrize(
    ("one", "other"),
    [([0.1, 0.9], [0.05, 0.95]), ([0.02, 0.98], [0.3, 0.7]), ([0.03, 0.97], [0.03, 0.97])],
)
def test_differences_and_ratios_are_covered_as_often_as_said(one, other):
    truths = [sum(w**2 for w in weights[:-1]) for weights in (one, other)]
    sides = [
        tail_error(of_degrees(groups_of_features(weights, 1500, 1000, seed)))
        for seed, weights in enumerate((one, other))
    ]
    found = tail_difference(*sides)
    assert as_often_as_said(covers(found, truths[0] - truths[1]))
    logs = found[["log_ratio_lower", "log_ratio_upper"]]
    logs = logs.rename(log_ratio_lower="lower", log_ratio_upper="upper")
    assert as_often_as_said(covers(logs, np.log(truths[0] / truths[1])))
    for name, error in (("difference", "standard_error"), ("log_ratio", "log_ratio_error")):
        measured = found[name].std(ddof=1).item()
        assert found[error].median().item() == pytest.approx(measured, rel=0.15)


def test_a_difference_turned_round_has_the_other_sign():
    one, other = (
        tail_error(of_degrees(groups_of_features([w, 1 - w], 1200, 1, 0)[0])) for w in (0.1, 0.3)
    )
    there, back = tail_difference(one, other), tail_difference(other, one)
    for name in ("difference", "log_ratio"):
        assert there[name].item() == pytest.approx(-back[name].item())
    for low, high in (("lower", "upper"), ("log_ratio_lower", "log_ratio_upper")):
        assert there[low].item() == pytest.approx(-back[high].item())
    assert there["trusted"]


def test_a_difference_from_nothing_has_no_ratio():
    some, none = (tail_error(of_degrees(np.full(1200, degree))) for degree in (4, 0))
    found = tail_difference(some, none)
    assert found["lower"] < found["difference"] == some["tail_fraction"]
    assert np.isnan(found["log_ratio"])
    assert np.isnan(found["log_ratio_upper"])
    assert not found["trusted"]
    one_pair = tail_error(of_degrees(np.repeat([1, 0], [2, 1198])))
    assert np.isfinite(tail_difference(some, one_pair)["log_ratio_upper"])


def test_differences_keep_the_labels_that_agree():
    def labelled(key, layer, degree):
        coords = {"dictionary": key, "model": "gpt", "layer": layer, "threshold": 0.1}
        return tail_error(of_degrees(np.full(1200, degree), coords=coords))

    early, late, base = labelled("a", 0, 4), labelled("b", 9, 6), labelled("c", 5, 5)
    found = tail_difference(early, late)
    assert {*found.coords} == {"model", "threshold"}
    against = tail_difference(xr.concat([early, late], "dictionary", coords="all"), base)
    assert against["dictionary"].values.tolist() == ["a", "b"]
    assert against["layer"].values.tolist() == [0, 9]
    assert (np.sign(against["difference"].values) == [-1, 1]).all()


def test_what_cannot_be_compared_is_refused():
    degree = of_degrees(np.full((2, 1200), 4), coords={"dictionary": ["a", "b"], "threshold": 0.1})
    one = tail_error(degree)
    with pytest.raises(GeomsaeError, match="level"):
        tail_difference(one, tail_error(degree, level=0.9))
    with pytest.raises(GeomsaeError, match="level"):
        tail_difference(one.drop_attrs(), one)
    with pytest.raises(GeomsaeError, match="thresholds"):
        tail_difference(one, one.assign_coords(threshold=0.2))
    several = of_degrees(np.full(1200, 4)).expand_dims(threshold=[0.1, 0.2])
    with pytest.raises(GeomsaeError, match="thresholds"):
        tail_difference(one, tail_error(several))
    with pytest.raises(GeomsaeError, match="dictionaries"):
        tail_difference(one, one.assign_coords(dictionary=["a", "c"]))
