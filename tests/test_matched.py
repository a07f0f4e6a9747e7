"""The covariance-matched null and directions taken out, against float64 and planted truths."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from test_features import unit
from test_moments import Blocks
from test_pairs import decoders

import geomsae
from geomsae.analysis.matched import _shares, _variances, centred, matched_directions, without_top
from geomsae.analysis.moments import anisotropy, second_moment
from geomsae.errors import GeomsaeError


def leaning(n, d, seed, clusters=0):
    """Directions of a steep spectrum, drawn independently but for `clusters` of 20 each."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((d, d)))[0] * np.arange(1, d + 1) ** -0.35
    rows = rng.standard_normal((n, d))
    for cluster in range(clusters):
        members = rows[20 * cluster : 20 * (cluster + 1)]
        members *= 0.5
        members += 0.75**0.5 * rng.standard_normal(d)
    return (rows @ mixing.T).astype(np.float32)


def moment(w):
    return second_moment(w)["second_moment"].values


def tail(w, threshold=0.5):
    return float(geomsae.tail_fraction(geomsae.cosine_histogram(w), threshold))


def test_drawn_rows_have_the_second_moment_of_the_dictionary():
    w = leaning(20000, 96, 0)
    expected, found = moment(w), moment(matched_directions(w))
    assert np.linalg.norm(expected - np.eye(96) / 96) > 0.5 * np.linalg.norm(expected)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    basis = np.linalg.eigh(expected)[1][:, ::-1]
    np.testing.assert_allclose(
        np.diag(basis.T @ found @ basis)[:5], np.diag(basis.T @ expected @ basis)[:5], rtol=0.05
    )
    lengths = np.linalg.norm(matched_directions(w).values, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_anisotropy_alone_is_not_taken_for_clusters():
    w = leaning(3000, 64, 1)
    for threshold, close in ((0.3, 0.05), (0.5, 0.2)):
        null = np.mean([tail(matched_directions(w, seed=seed), threshold) for seed in range(4)])
        assert tail(w, threshold) == pytest.approx(null, rel=close)
        assert null > 3 * geomsae.analysis.isotropic_tail(64, threshold)


def test_few_isotropic_rows_are_not_taken_for_anisotropic_ones():
    w = np.random.default_rng(8).standard_normal((1500, 300))
    isotropic = geomsae.analysis.isotropic_tail(300, 0.2)
    assert tail(w, 0.2) == pytest.approx(isotropic, rel=0.3)
    assert tail(matched_directions(w), 0.2) == pytest.approx(isotropic, rel=0.3)
    assert tail(matched_directions(w, shrink=False), 0.2) > 2 * isotropic


@pytest.mark.long
@pytest.mark.parametrize(("n", "d"), [(400, 300), (3000, 64), (50, 80)])
def test_the_null_has_the_mean_squared_cosine_of_the_dictionary(n, d):
    w = leaning(n, d, 5)
    wanted = float(anisotropy(w)["mean_square_cosine"])
    many = np.concatenate([matched_directions(w, seed=seed).values for seed in range(9000 // n)])
    assert float(anisotropy(many)["mean_square_cosine"]) == pytest.approx(wanted, rel=0.03)


def test_clusters_rise_above_the_matched_null():
    w = leaning(3000, 64, 1, clusters=100)
    null = [tail(matched_directions(w, seed=seed), 0.7) for seed in range(3)]
    clustered = 100 * 20 * 19 / (3000 * 2999)
    assert max(null) < 0.1 * clustered
    assert tail(w, 0.7) > 0.3 * clustered
    loose = leaning(3000, 64, 1)
    assert tail(loose, 0.7) < 0.1 * clustered


@pytest.mark.parametrize("mean", [False, True])
def test_draws_depend_on_the_dictionary_and_the_seed_alone(mean):
    w = leaning(2500, 20, 2)
    drawn = matched_directions(w, seed=5, mean=mean).compute(scheduler="sync")
    for workers in (1, 3):
        again = matched_directions(da.from_array(w, chunks=(700, 20)), seed=5, mean=mean)
        again = again.compute(scheduler="threads", num_workers=workers)
        assert again.identical(drawn)
    backwards = matched_directions(w, seed=5, mean=mean)[::-1][:1500].compute()
    np.testing.assert_array_equal(backwards, drawn[::-1][:1500])
    other = matched_directions(w, seed=6, mean=mean).compute()
    assert float(abs(other - drawn).max()) > 0.1
    # Streams differ from each other, too.
    assert abs(drawn.values[:1024] - drawn.values[1024:2048]).min(axis=1).max() > 1e-3


def test_the_mean_direction_is_kept_where_it_is_asked_for():
    w = leaning(8000, 50, 3) + np.float32(1.2)
    found = anisotropy(w).compute()
    assert float(found["mean_length"]) > 0.5
    without = anisotropy(matched_directions(w)).compute()
    kept = anisotropy(matched_directions(w, mean=True)).compute()
    assert float(without["mean_length"]) < 0.1
    np.testing.assert_allclose(kept["mean"], found["mean"], atol=0.03)
    assert float(kept["mean_cosine"]) == pytest.approx(float(found["mean_cosine"]), rel=0.1)


def test_class_directions_of_clip(real):
    w = load_file(real / "clip_vitb32_imagenet_directions.safetensors")["directions"]
    drawn = matched_directions(w, mean=True)
    found, null = anisotropy(w).compute(), anisotropy(drawn).compute()
    assert float(null["mean_cosine"]) == pytest.approx(float(found["mean_cosine"]), abs=0.02)
    assert float(null["effective_rank"]) == pytest.approx(float(found["effective_rank"]), rel=0.1)
    assert float(null["effective_dimension"]) == pytest.approx(
        float(found["effective_dimension"]), rel=0.1
    )
    # Near duplicates are no matter of covariance.
    assert tail(w, 0.9) > 10 * tail(drawn, 0.9)


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=60))
@settings(max_examples=60)
def test_variances_are_found_for_any_shares(shares):
    shares = np.array(shares) / sum(shares)
    variances = _variances(shares)
    np.testing.assert_allclose(_shares(variances), shares, rtol=1e-8)
    assert variances.sum() == pytest.approx(1)


def test_shares_of_normal_variables():
    # Of two, with standard deviations a and b, the shares are as a to b.
    np.testing.assert_allclose(_shares(np.array([0.9, 0.1])), [0.75, 0.25], rtol=1e-14)
    np.testing.assert_allclose(_shares(np.full(7, 1 / 7)), 1 / 7, rtol=1e-14)
    variances = np.array([0.5, 0.3, 0.15, 0.05])
    z = np.random.default_rng(0).standard_normal((400_000, 4)) ** 2 * variances
    drawn = (z / z.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(_shares(variances), drawn, atol=3e-3)


def test_fewer_rows_than_dimensions_are_matched_within_their_span():
    w = leaning(12, 40, 4)
    drawn = matched_directions(w, shrink=False).values
    assert drawn.shape == (12, 40)
    basis = np.linalg.svd(w.astype(np.float64), full_matrices=False)[2]
    np.testing.assert_allclose(np.linalg.norm(drawn @ basis.T, axis=1), 1, atol=1e-6)


@given(decoders(), st.booleans(), st.integers(0, 5))
@example(np.zeros((1, 1), np.float32), False, 0)
@settings(max_examples=30)
def test_there_are_as_many_directions_as_in_the_dictionary(w, mean, seed):
    drawn = matched_directions(w, mean=mean, seed=seed).compute(scheduler="sync")
    assert drawn.shape == w.shape
    assert drawn.dtype == np.float32
    n = int(w.any(axis=1).sum())
    np.testing.assert_allclose(np.linalg.norm(drawn[:n], axis=1), 1, atol=1e-6)
    assert not drawn[n:].any()


def test_labels_say_what_it_is():
    w = xr.DataArray(
        da.from_array(np.eye(4), chunks=2),
        dims=("feature", "d_model"),
        coords={"layer": 3, "norm": ("feature", np.ones(4))},
    )
    drawn = matched_directions(w, seed=7)
    assert dask.is_dask_collection(drawn)
    assert drawn["null"].item() == "covariance"
    assert int(drawn["layer"]) == 3
    assert "norm" not in drawn.coords  # that of other rows
    hist = geomsae.cosine_histogram(drawn)
    assert hist["null"].item() == "covariance"
    for left in (centred(w), without_top(w, 1)):
        assert dask.is_dask_collection(left)
        assert left.dims == ("feature", "d_model")
        assert set(left.coords) == {"layer", "norm"}
    with pytest.raises(GeomsaeError, match="seed"):
        matched_directions(w, seed=-1)


@given(decoders())
@settings(max_examples=40)
def test_centred_rows_have_no_mean(w):
    rows = unit(w)
    there = np.isfinite(rows).all(axis=1)
    left = centred(w).compute(scheduler="sync").values
    assert not left[~there].any()
    if there.any():
        expected = rows[there] - rows[there].mean(axis=0)
        np.testing.assert_allclose(left[there], expected, atol=1e-9)
        np.testing.assert_allclose(left.sum(axis=0), 0, atol=1e-6)


@pytest.mark.long
@given(decoders(), st.integers(0, 200))
@settings(max_examples=40)
def test_principal_directions_are_taken_out(w, r):
    r = min(r, w.shape[1])
    rows = np.nan_to_num(unit(w))
    left = without_top(w, r).compute(scheduler="sync").values
    singular = np.linalg.svd(rows, compute_uv=False)
    rest = np.linalg.svd(left, compute_uv=False)[: max(singular.size - r, 0)]
    np.testing.assert_allclose(rest, singular[r:], atol=1e-6)  # whichever of equal ones went
    assert np.linalg.norm(left) ** 2 == pytest.approx((singular[r:] ** 2).sum(), abs=1e-6)
    assert (np.linalg.norm(left, axis=1) <= 1 + 1e-9).all()
    assert not left[~w.any(axis=1)].any()


def test_what_was_in_common_is_gone():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2000, 200)) + 2.0
    assert tail(w) > 0.99
    assert tail(centred(w)) == 0
    assert tail(without_top(w, 1)) == 0
    assert tail(without_top(w, 0)) == tail(w)
    np.testing.assert_allclose(without_top(w, 200), 0, atol=1e-9)
    for r in (-1, 201):
        with pytest.raises(GeomsaeError, match="principal"):
            without_top(w, r)


def test_rows_of_which_nothing_is_left_have_no_direction():
    w = np.outer(np.arange(1, 40), [0.1, 0.7, -0.3])
    for left in (centred(w), without_top(w, 1)):
        assert not left.values.any()
        assert int(geomsae.cosine_histogram(left)["n_excluded"]) == 39


@pytest.mark.parametrize("rows", [256, 2048, 4096])
@pytest.mark.parametrize(
    ("made", "passes"), [(centred, 2), (lambda w: without_top(w, 2), 2), (matched_directions, 1)]
)
def test_only_a_few_blocks_are_in_memory(made, passes, rows):
    blocks = Blocks(49152 // rows, 8, rows)
    found = made(blocks.array)
    assert blocks.made == 0
    found.data.sum().compute(scheduler="threads", num_workers=3)
    assert blocks.made * rows == 49152 * passes
    assert blocks.most * rows <= 9 * max(rows, 2048)
