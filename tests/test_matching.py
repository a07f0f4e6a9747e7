"""One feature to one, against every permutation there is, and against a copy that was shuffled."""

from itertools import permutations

import numpy as np
import pytest
import xarray as xr
from test_features import all_cosines

import geomsae
from geomsae.analysis import matching
from geomsae.analysis.matching import one_to_one
from geomsae.errors import DecoderError


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 7), (7, 4), (1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_no_permutation_is_better(n, m, seed):
    rng = np.random.default_rng(seed)
    w, v = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    exact = all_cosines(w, v)
    wide = exact if n <= m else exact.T
    rows = np.arange(min(n, m))
    best = max(wide[rows, list(p)].sum() for p in permutations(range(max(n, m)), min(n, m)))
    found = one_to_one(w, v)
    mine = np.flatnonzero(found["partner"].values >= 0)
    partners = found["partner"].values[mine]
    assert len(set(partners.tolist())) == len(mine) == found["n_matched"] == min(n, m)
    assert found["cosine"].values[mine] == pytest.approx(exact[mine, partners])
    assert found["mean_cosine"].item() * min(n, m) == pytest.approx(best)
    assert (np.isnan(found["cosine"].values) == (found["partner"].values < 0)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shuffled_noisy_copy_is_recovered(dtype):
    rng = np.random.default_rng(1)
    w = rng.standard_normal((400, 32)).astype(dtype)
    order = rng.permutation(400)
    v = w[order] + 0.1 * rng.standard_normal(w.shape)
    v *= rng.uniform(0.1, 9, (400, 1))  # lengths mean nothing
    found = one_to_one(w, v.astype(dtype))
    assert (order[found["partner"].values] == np.arange(400)).all()
    assert found["partner"].dtype == np.int64
    assert 0.98 < found["mean_cosine"].item() < 1
    back = one_to_one(v.astype(dtype), w)
    assert (back["partner"].values == order).all()
    assert back["mean_cosine"].item() == pytest.approx(found["mean_cosine"].item())


def test_each_partner_is_given_once_where_the_nearest_is_shared():
    w = np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 1]])
    v = np.array([[1, 0.05, 0], [0, 1, 0], [0, 0, 2]])
    near = geomsae.compare(w, v)["nearest"].values[:, 0]
    assert near.tolist() == [0, 0, 2]
    found = one_to_one(w, v)
    assert sorted(found["partner"].values.tolist()) == [0, 1, 2]
    assert found["partner"].values.tolist() == [0, 1, 2]  # the second leans towards the other
    assert found["mean_cosine"] < geomsae.compare(w, v)["mean_max_cosine"].compute()


def test_opposite_directions_are_not_taken_for_similar():
    found = one_to_one([[1, 0], [0, 1]], [[-1, 0], [0.1, 1]])
    assert found["partner"].values.tolist() == [1, 0]
    assert found["cosine"].values == pytest.approx([0.1 / np.hypot(0.1, 1), 0])


def test_rows_without_a_direction_never_match():
    rng = np.random.default_rng(2)
    w = rng.standard_normal((9, 200))
    v = w[::-1].copy()
    w[[0, 4]] = 0
    v[2] = 0  # the copy of row 6
    found = one_to_one(w, v)
    assert found["n_matched"] == 7
    assert found["partner"].values[[0, 4]].tolist() == [-1, -1]
    assert 2 not in found["partner"].values
    kept = [1, 2, 3, 5, 7, 8]
    assert (found["partner"].values[kept] == 8 - np.array(kept)).all()
    assert found["cosine"].values[kept] == pytest.approx(1)
    nothing = one_to_one(np.zeros((2, 3)), v[:, :3])
    assert nothing["n_matched"] == 0
    assert np.isnan(nothing["mean_cosine"])
    assert nothing["partner"].values.tolist() == [-1, -1]


def test_a_labelled_decoder_is_taken_whichever_way_it_lies():
    w = np.random.default_rng(3).standard_normal((6, 4))
    labelled = xr.DataArray(w, dims=("feature", "d_model")).chunk({"feature": 4})
    assert one_to_one(labelled, labelled.transpose()).identical(one_to_one(w, w))
    assert one_to_one(w, w)["partner"].values.tolist() == list(range(6))


def test_what_cannot_be_matched_is_refused(monkeypatch):
    with pytest.raises(DecoderError, match="different spaces"):
        one_to_one(np.eye(3), np.eye(4))
    with pytest.raises(DecoderError):
        one_to_one(np.eye(3), np.full((3, 3), np.nan))
    with pytest.raises(DecoderError, match=r"geomsae\.compare"):
        one_to_one(np.broadcast_to(1.0, (8193, 2)), np.broadcast_to(1.0, (8192, 2)))
    monkeypatch.setattr(matching, "MOST_COSINES", 12)
    assert one_to_one(np.eye(3), np.eye(3))["n_matched"] == 3
    with pytest.raises(DecoderError, match="4 x 4 features are too many"):
        one_to_one(np.eye(4), np.eye(4))
