"""Two dictionaries beside each other, against brute force in float64."""

import dask
import numpy as np
import pytest
from conftest import json_of, run_geomsae
from test_features import all_cosines

import geomsae
from geomsae.errors import DecoderError, ThresholdError
from geomsae.sources import Wanted

THRESHOLDS = (0.3, 0.7, 0.9)


def split(rng, w, times, noise):
    """A wider dictionary in which each feature of another comes several times, a little moved."""
    wide = np.repeat(w, times, axis=0)
    return wide + noise * rng.standard_normal(wide.shape)


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((300, 48))
    w[7] = 0
    v = split(rng, w[100:], 3, 0.05)
    return w, np.concatenate([v, rng.standard_normal((50, 48))])


@pytest.fixture
def both(tmp_path, matrix, planted):
    store = geomsae.open_store(tmp_path / "store", create=True)
    for name, rows in zip("wv", planted, strict=True):
        path = matrix(rows.astype(np.float32), f"{name}.npy")
        list(geomsae.convert(path, store, Wanted(model=name, layer="3")))
    return store, list(store.decoders)


def assert_summary(found, exact):
    for prefix, mine in (("", exact), ("other_", exact.T)):
        best = np.nanmax(mine[~np.isnan(mine).all(axis=1)], axis=1)
        assert float(found[f"{prefix}mean_max_cosine"]) == pytest.approx(best.mean(), abs=1e-6)
        for threshold in THRESHOLDS:
            at = {"threshold": threshold}
            share = (best >= threshold).mean()
            assert float(found[f"{prefix}share_matched"].sel(at)) == pytest.approx(share)
            unmatched = int(found[f"{prefix}n_unmatched"].sel(at))
            assert unmatched == (best < threshold).sum()
            partners = (np.abs(np.nan_to_num(mine)) >= threshold).sum(axis=1)
            expected = partners[np.nan_to_num(mine, nan=-9).max(axis=1) >= threshold].mean()
            assert float(found[f"{prefix}mean_partners"].sel(at)) == pytest.approx(expected)


def test_the_summary_agrees_with_brute_force(planted):
    w, v = planted
    found = geomsae.compare(w, v, thresholds=THRESHOLDS)
    assert dask.is_dask_collection(found)
    assert_summary(found.compute(), all_cosines(w, v))


def test_a_feature_that_splits_has_several_partners(planted):
    found = geomsae.compare(*planted, thresholds=THRESHOLDS).sel(threshold=0.9).compute()
    assert float(found["mean_partners"]) == pytest.approx(3, abs=0.05)
    assert float(found["other_mean_partners"]) == pytest.approx(1, abs=0.05)
    assert float(found["share_matched"]) == pytest.approx(200 / 299, abs=0.01)
    assert float(found["other_share_matched"]) == pytest.approx(600 / 650, abs=0.01)


def test_a_dictionary_and_itself_match_altogether(planted):
    w = planted[0]
    found = geomsae.compare(w, w).compute()
    assert (found["share_matched"] == 1).all()
    assert float(found["mean_max_cosine"]) == pytest.approx(1, abs=1e-6)
    has = np.arange(len(w))[w.any(axis=1)]
    assert (found["nearest"].values[has, 0] == has).all()


def test_stored_dictionaries_are_compared_where_they_lie(both, planted):
    store, (one, other) = both
    ids = (one, other) if one.startswith("w") else (other, one)
    found = geomsae.compare_stored(store, *ids, thresholds=THRESHOLDS)
    direct = geomsae.compare(
        store.decoder(ids[0]), store.decoder(ids[1]), thresholds=THRESHOLDS
    ).compute()
    for name in direct.data_vars:
        assert (found[name].values == direct[name].values)[~np.isnan(direct[name].values)].all()
    assert_summary(found, all_cosines(*(rows.astype(np.float32) for rows in planted)))
    assert found["dictionary"].item() == ids[0]
    assert found["other_model"].item() == "v"


def test_the_command_prints_every_couple(both, tmp_path, matrix):
    store, ids = both
    third = matrix(np.eye(48, dtype=np.float32), "third.npy")
    list(geomsae.convert(third, store, Wanted(model="third")))
    words = ["compare", *ids, "third", "--matched", "0.7", "--store", store.location]
    rows = json_of(*words, cwd=tmp_path)
    assert [(row["id"], row["other"]) for row in rows] == [
        (ids[0], ids[1]),
        (ids[0], "third"),
        (ids[1], "third"),
    ]
    assert rows[0]["n_pairs"] == 299 * 650
    assert {"share_matched_0.7", "other_n_unmatched_0.7"} < set(rows[0])
    shown, _ = run_geomsae(*words, cwd=tmp_path)
    assert "mean_max_cosine" in shown


def test_directions_of_different_spaces_are_not_compared(both, matrix):
    store, ids = both
    list(geomsae.convert(matrix(np.eye(3), "small.npy"), store, Wanted(model="small")))
    with pytest.raises(DecoderError, match="different spaces"):
        geomsae.compare_stored(store, ids[0], "small")
    with pytest.raises(ThresholdError):
        geomsae.compare(np.eye(3), np.eye(3), thresholds=[0.12345])


def test_neighbours_are_printed_with_the_numbers_that_are_published(both, tmp_path):
    store, ids = both
    list(geomsae.compute_histograms(store, neighbours=3))
    id = ids[0]
    exact = all_cosines(store.decoder(id).values)
    rows = json_of("neighbours", id, "--most", "5", "--store", store.location, cwd=tmp_path)
    assert len(rows) == 5
    for row in rows:
        assert row["cosine"] == pytest.approx(exact[row["feature"], row["neighbour"]], abs=2e-6)
    assert rows[0]["cosine"] == pytest.approx(np.nanmax(exact), abs=2e-6)
    opposite = json_of("neighbours", id, "--opposite", "--store", store.location, cwd=tmp_path)
    assert opposite[0]["cosine"] == pytest.approx(np.nanmin(exact), abs=2e-6)
    mine = json_of("neighbours", id, "--feature", "5", "--store", store.location, cwd=tmp_path)
    assert [row["rank"] for row in mine] == [0, 1, 2, "opposite"]
    assert mine[0]["cosine"] == pytest.approx(np.nanmax(exact[5]), abs=2e-6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["neighbours", "nobody"], "no dictionary"),
        (["neighbours", "ID", "--feature", "99999"], "no feature 99999"),
        (["neighbours", "ID"], "geomsae histogram"),
        (["compare", "ID", "nobody"], "no dictionary"),
        (["compare", "ID", "ID", "--matched", "0.12345"], "inside a bin"),
        (["compare", "ID", "ID", "--memory", "1MB"], "--memory"),
    ],
)
def test_wrong_words_get_one_sentence(both, tmp_path, words, says):
    store, ids = both
    if "--feature" in words:
        list(geomsae.compute_histograms(store))
    words = [ids[0] if word == "ID" else word for word in words]
    _, told = run_geomsae(*words, "--store", store.location, cwd=tmp_path, status=1)
    assert says in told
    assert told.startswith("Error: ")
    assert "Traceback" not in told
