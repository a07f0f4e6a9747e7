"""Degrees, neighbours and extreme pairs, against brute force in float64."""

import dask
import numpy as np
import pytest
import xarray as xr
from brute_force import NEAR, assert_counts, cosines
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pairs import decoders

import geomsae
from geomsae import cosine_histogram
from geomsae.ask import Ask
from geomsae.bins import edges
from geomsae.errors import GeomsaeError, StoreError
from geomsae.pairs.plan import TILE
from geomsae.results import usual_ask

THRESHOLDS = (0.1, 0.3, 0.5)


def all_cosines(w, v=None):
    """Every cosine, float64, shape (n, m); NaN where there is none, as of a row with itself."""
    rows = unit(w)
    exact = rows @ (rows if v is None else unit(v)).T
    if v is None:
        np.fill_diagonal(exact, np.nan)
    return exact


def unit(w):
    rows = np.asarray(w, np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows / largest
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def largest(values, k):
    """The k largest along the last axis, or all, the largest first."""
    k = min(k, values.shape[-1])
    return -np.sort(np.partition(-values, k - 1)[..., :k])


def assert_partners(exact, partner, cosine, sign):
    """Hold the best partners of each row against all of them, up to ties within NEAR."""
    merit = np.where(np.isnan(exact), -np.inf, sign * exact)
    best = largest(merit, partner.shape[1])
    there = np.isfinite(best)
    assert ((partner[:, : best.shape[1]] >= 0) == there).all()
    assert (np.isnan(cosine[:, : best.shape[1]]) == ~there).all()
    assert (partner[:, best.shape[1] :] == -1).all()
    found = np.take_along_axis(merit, np.maximum(partner, 0)[:, : best.shape[1]], axis=1)
    assert (np.abs(found[there] - best[there]) <= NEAR).all()
    assert (np.abs(sign * cosine[:, : best.shape[1]][there] - best[there]) <= NEAR).all()
    assert all(len({*row} - {-1}) == sum(at >= 0 for at in row) for row in partner.tolist())


def assert_degrees(exact, degree):
    size = np.abs(np.where(np.isnan(exact), 0, exact))
    for number, threshold in enumerate(THRESHOLDS):
        least = (size > threshold + NEAR).sum(axis=1)
        most = (size >= threshold - NEAR).sum(axis=1)
        assert (least <= degree[:, number]).all()
        assert (degree[:, number] <= most).all()


def assert_pairs(exact, within, pairs, cosine, sign):
    merit = np.where(np.isnan(exact), -np.inf, sign * exact)
    if within:
        merit[np.tril_indices(len(merit))] = -np.inf
        assert (pairs[:, 0] < pairs[:, 1])[pairs[:, 0] >= 0].all()
    best = np.full(len(pairs), -np.inf)
    ordered = largest(merit.ravel(), len(pairs))
    best[: ordered.size] = ordered
    there = np.isfinite(best)
    assert ((pairs >= 0).all(axis=1) == there).all()
    assert (np.abs(merit[tuple(pairs[there].T)] - best[there]) <= NEAR).all()
    assert (np.abs(sign * cosine[there] - best[there]) <= NEAR).all()
    assert len({tuple(pair) for pair in pairs[there].tolist()}) == there.sum()


def assert_answers(found, w, v=None):
    exact = all_cosines(w, v)
    sides = [("", exact)] if v is None else [("", exact), ("other_", exact.T)]
    for prefix, mine in sides:
        nearest, opposite = found[f"{prefix}nearest"].values, found[f"{prefix}opposite"].values
        assert_partners(mine, nearest, found[f"{prefix}nearest_cosine"].values, 1)
        assert_partners(
            mine, opposite[:, None], found[f"{prefix}opposite_cosine"].values[:, None], -1
        )
        assert_degrees(mine, found[f"{prefix}degree"].values)
    for end, sign in (("similar", 1), ("opposite", -1)):
        top = found[f"top_{end}"].values
        assert_pairs(exact, v is None, top, found[f"top_{end}_cosine"].values, sign)


@given(decoders(), st.sampled_from([1, 3, 8]), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40)
def test_answers_within_a_dictionary_agree_with_brute_force(rows, neighbours, precision):
    asked = {"thresholds": THRESHOLDS, "neighbours": neighbours, "pairs": 40}
    found = cosine_histogram(rows, precision=precision, **asked).compute(scheduler="sync")
    assert_counts(found, cosines(rows))
    assert_answers(found, rows)


@given(decoders(), st.integers(1, 300), st.sampled_from([1, 4]))
@settings(max_examples=25)
def test_answers_across_two_dictionaries_agree_with_brute_force(rows, m, neighbours):
    other = np.random.default_rng(m).standard_normal((m, rows.shape[1])).astype(np.float32)
    other[:: max(1, m // 3)] = rows[0]
    asked = {"thresholds": THRESHOLDS, "neighbours": neighbours, "pairs": 40}
    found = cosine_histogram(rows, other, **asked).compute(scheduler="sync")
    assert_counts(found, cosines(rows, other))
    assert_answers(found, rows, other)


@pytest.mark.long
@pytest.mark.parametrize(("n", "d"), [(8192, 64), (2 * TILE + 300, 5), (1100, 4096)])
def test_answers_agree_across_the_borders_of_tiles_and_in_many_dimensions(n, d):
    rows = np.random.default_rng(n).standard_normal((n, d)).astype(np.float32)
    rows += 0.3 * rows[0]
    rows[::97] = rows[5]
    rows[n // 2] = 0
    rows[n // 3] = -rows[7]
    found = cosine_histogram(rows, thresholds=THRESHOLDS, neighbours=3, pairs=300).compute()
    assert_counts(found, cosines(rows))
    assert_answers(found, rows)


@pytest.mark.long
def test_answers_are_the_same_whatever_was_counted_first():
    rows = np.random.default_rng(0).standard_normal((3 * TILE, 12)).astype(np.float32)
    rows[TILE : TILE + 600] = rows[:600]  # equal cosines in plenty
    rows[5000:5100] = rows[77]
    asked = {"thresholds": THRESHOLDS, "neighbours": 4, "pairs": 500}
    expected = cosine_histogram(rows, **asked).compute(scheduler="sync")
    for workers in (1, 2, 5):
        again = cosine_histogram(rows, **asked).compute(scheduler="threads", num_workers=workers)
        assert again.equals(expected)
    assert_answers(expected, rows)


def test_degrees_add_up_to_the_tails():
    rows = np.random.default_rng(4).standard_normal((900, 20))
    found = cosine_histogram(rows, thresholds=THRESHOLDS).compute()
    shares = geomsae.tail_fraction(found, THRESHOLDS)
    twice = 2 * shares * found["n_pairs"]
    np.testing.assert_allclose(found["degree"].sum("feature"), twice, rtol=1e-12)


def test_it_is_lazy_and_labelled():
    w = xr.DataArray(np.eye(4), dims=("feature", "d_model"), coords={"layer": 3})
    found = cosine_histogram(w, thresholds=[0.5], neighbours=2, pairs=3)
    assert dask.is_dask_collection(found)
    assert found["degree"].dims == ("feature", "threshold")
    assert found["nearest"].dims == ("feature", "rank")
    assert found["top_similar"].dims == ("pair", "member")
    assert found.sel(threshold=0.5, rank=0)["nearest"].dims == ("feature",)
    assert int(found["layer"]) == 3
    cross = cosine_histogram(w, np.ones((2, 4)), neighbours=1)
    assert cross["other_nearest"].dims == ("other_feature", "rank")


@pytest.mark.parametrize(
    "asked",
    [
        {"thresholds": [0.1234]},
        {"thresholds": [0.0, 0.1]},
        {"thresholds": [0.3, 0.1]},
        {"thresholds": [0.1, 0.1]},
        {"neighbours": -1},
        {"neighbours": 10**6},
        {"pairs": -1},
        {"pairs": 10**9},
    ],
)
def test_what_cannot_be_asked_is_refused(asked):
    with pytest.raises(GeomsaeError):
        cosine_histogram(np.eye(3), **asked)


@given(st.integers(2, 3000))
def test_usual_thresholds_are_edges(bins):
    ask = usual_ask(bins)
    assert np.isin(ask.thresholds, edges(bins)).all()


def test_the_store_keeps_what_the_pass_told(store):
    list(geomsae.compute_histograms(store, thresholds=THRESHOLDS, neighbours=2, pairs=30))
    for key in store.decoders:
        found = store.features(key).merge(store.pairs(key), compat="override")
        assert_answers(found, store.decoder(key).values)
        assert store.features(key)["layer"].item() == store.attributes(key)["layer"]
        assert (store.features(key)["norm"].values == store.norms(key)).all()


def test_more_is_asked_without_losing_what_was_known(store):
    key = next(iter(store.decoders))
    list(geomsae.compute_histograms(store, [key], thresholds=[0.3], neighbours=3, pairs=5))
    before = store.features(key)
    assert list(geomsae.compute_histograms(store, [key], thresholds=[0.3], pairs=4)) == []
    assert list(geomsae.compute_histograms(store, [key], thresholds=[0.5], neighbours=1)) == [key]
    after = store.features(key)
    assert after["threshold"].values.tolist() == [0.3, 0.5]
    assert after.sel(threshold=[0.3]).equals(before)
    assert store.pairs(key).sizes["pair"] == 1000


def test_counts_alone_leave_the_rest_out(store):
    nothing = {"thresholds": [], "neighbours": 0, "pairs": 0}
    assert len(list(geomsae.compute_histograms(store, **nothing))) == 4
    key = next(iter(store.decoders))
    with pytest.raises(StoreError, match="geomsae histogram"):
        store.features(key)
    assert list(geomsae.compute_histograms(store, **nothing)) == []
    assert list(geomsae.compute_histograms(store, [key])) == [key]
    assert store.features(key).sizes["threshold"] == 4


def test_features_that_were_changed_are_not_shown(store):
    import zarr

    key = next(iter(store.decoders))
    list(geomsae.compute_histograms(store, [key]))
    path = f"{store.location}/{key}/results/features_2000_float32/nearest"
    array = zarr.open_array(path, mode="r+")
    array[3, 0] = 0 if array[3, 0] else 1
    with pytest.raises(StoreError, match="nearest"):
        store.features(key)


def test_an_ask_says_what_it_keeps():
    assert not Ask().keeps
    assert Ask(pairs=1).keeps
