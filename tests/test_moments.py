"""Numbers of a dictionary as a whole, against brute force over all pairs and closed forms."""

import threading
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from brute_force import cosines
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from test_features import unit
from test_pairs import decoders

import geomsae
from geomsae.analysis.coherence import coherence, welch_bound
from geomsae.analysis.moments import (
    anisotropy,
    feature_dimensionality,
    second_moment,
    unit_rows,
)
from geomsae.errors import DecoderError, GeomsaeError

PAIRLESS = ("mean_cosine", "mean_square_cosine")


def directed(w):
    """Unit rows of those that have a direction, float64."""
    rows = unit(w)
    return rows[np.isfinite(rows).all(axis=1)]


def simplex(d):
    """The d + 1 directions that are furthest from each other: every cosine is -1 / d."""
    corners = np.eye(d + 1) - 1 / (d + 1)
    basis = np.linalg.svd(corners)[2][:d]
    return corners @ basis.T


class Blocks:
    """A matrix that is made block by block, and knows how many of them were alive at once."""

    def __init__(self, blocks, d, rows=2048):
        self.made = self.alive = self.most = 0
        self.lock = threading.Lock()
        chunks = ((rows,) * blocks, (d,))
        self.array = da.map_blocks(
            self.make, rows, d, chunks=chunks, dtype=float, meta=np.empty((0, 0))
        )

    def make(self, rows, d, block_id=None):
        block = np.random.default_rng(block_id[0]).standard_normal((rows, d))
        with self.lock:
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(block, self.gone)
        return block

    def gone(self):
        with self.lock:
            self.alive -= 1


@pytest.mark.long
@given(decoders())
@settings(max_examples=60)
def test_sums_over_pairs_agree_with_brute_force(w):
    rows, pairs = directed(w), cosines(w)
    found = anisotropy(w).compute(scheduler="sync")
    n, d = len(rows), w.shape[1]
    assert (int(found["n_directed"]), int(found["n_excluded"])) == (n, len(w) - n)
    assert all(np.isnan(found[name]) for name in PAIRLESS) == (n < 2)
    if n > 1:
        assert float(found["mean_cosine"]) == pytest.approx(pairs.mean(), rel=1e-9, abs=1e-13)
        square = (pairs**2).mean()
        assert float(found["mean_square_cosine"]) == pytest.approx(square, rel=1e-9, abs=1e-13)
    if n > 0:
        mean = rows.mean(axis=0)
        np.testing.assert_allclose(found["mean"], mean, atol=1e-14)
        assert float(found["mean_length"]) == pytest.approx(np.linalg.norm(mean), abs=1e-13)
        potential = float(((rows @ rows.T) ** 2).sum())
        assert float(found["frame_potential"]) == pytest.approx(potential, rel=1e-12)
        bound = float(found["frame_potential_bound"])
        assert bound == max(n, n * n / d) <= potential * (1 + 1e-12)
        assert 1 - 1e-12 <= float(found["effective_dimension"]) <= min(n, d) + 1e-9
    else:
        assert np.isnan(found["mean_length"])
        assert np.isnan(found["effective_dimension"])
        assert np.isnan(found["effective_rank"])


@pytest.mark.long
@given(decoders())
@settings(max_examples=40)
def test_the_spectrum_is_that_of_the_rows(w):
    rows = directed(w)
    found = anisotropy(w, ranks=(1, 5)).compute(scheduler="sync")
    spectrum = found["spectrum"].values
    assert spectrum.shape == (w.shape[1],)
    assert (np.diff(spectrum) <= 0).all()
    if len(rows) == 0:
        assert (spectrum == 0).all()
        return
    singular = np.linalg.svd(rows, compute_uv=False)
    expected = np.zeros(w.shape[1])
    expected[: singular.size] = singular**2 / len(rows)
    np.testing.assert_allclose(spectrum, expected, atol=1e-12)
    weights = singular[singular > 1e-5 * singular[0]] / singular.sum()
    entropy = -(weights * np.log(weights)).sum()
    assert float(found["effective_rank"]) == pytest.approx(np.exp(entropy), rel=1e-2)
    positive = spectrum[spectrum > 0][:5]
    if positive.size < 2:
        assert np.isnan(found["spectrum_slope"])
    else:
        line = np.polynomial.Polynomial.fit(
            np.log(np.arange(1, positive.size + 1)), np.log(positive), 1
        )
        slope = line.convert().coef
        assert float(found["spectrum_slope"]) == pytest.approx(
            slope[1] if slope.size > 1 else 0, rel=1e-9, abs=1e-9
        )


@given(decoders())
@settings(max_examples=40)
def test_the_dimensionality_of_features_agrees_with_brute_force(w):
    rows = unit(w)
    there = np.isfinite(rows).all(axis=1)
    found = feature_dimensionality(w).compute(scheduler="sync").values
    assert (np.isnan(found) == ~there).all()
    expected = 1 / ((rows[there] @ rows[there].T) ** 2).sum(axis=1)
    np.testing.assert_allclose(found[there], expected, rtol=1e-10)
    if there.any():
        assert found[there].sum() <= np.linalg.matrix_rank(rows[there]) + 1e-9


def test_an_orthonormal_basis_fills_its_space():
    found = anisotropy(np.eye(6)[::-1] * 7).compute()
    assert float(found["mean_cosine"]) == pytest.approx(0, abs=1e-15)
    assert float(found["mean_square_cosine"]) == pytest.approx(0, abs=1e-15)
    assert float(found["frame_potential"]) == pytest.approx(6)
    assert float(found["frame_potential_bound"]) == 6
    assert float(found["effective_dimension"]) == pytest.approx(6)
    assert float(found["effective_rank"]) == pytest.approx(6)
    assert float(found["mean_length"]) == pytest.approx(6**-0.5)
    np.testing.assert_allclose(found["spectrum"], 1 / 6)
    np.testing.assert_allclose(feature_dimensionality(np.eye(6)), 1)


@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_a_simplex_is_a_tight_frame_at_the_welch_bound(d):
    w = simplex(d)
    found = anisotropy(w).compute()
    n = d + 1
    assert float(found["mean_cosine"]) == pytest.approx(-1 / d)
    assert float(found["mean_length"]) == pytest.approx(0, abs=1e-7)
    assert float(found["frame_potential"]) == pytest.approx(n * n / d)
    assert float(found["frame_potential_bound"]) == pytest.approx(n * n / d)
    assert float(found["effective_dimension"]) == pytest.approx(d)
    np.testing.assert_allclose(feature_dimensionality(w), d / n)
    largest = coherence(geomsae.cosine_histogram(w, pairs=3, precision="float64"))
    assert float(largest) == pytest.approx(welch_bound(n, d)) == pytest.approx(1 / d)


def test_one_direction_over_and_over():
    w = np.outer(np.arange(1, 9), [3.0, 4.0, 0.0])
    found = anisotropy(w).compute()
    for name in ("mean_length", "mean_cosine", "mean_square_cosine", "effective_dimension"):
        assert float(found[name]) == pytest.approx(1)
    assert float(found["effective_rank"]) == pytest.approx(1)
    assert float(found["frame_potential"]) == pytest.approx(64)
    assert np.isnan(found["spectrum_slope"])
    assert (found["spectrum"].values[1:] == 0).all()
    np.testing.assert_allclose(feature_dimensionality(w), 1 / 8)


def test_a_planted_power_law_is_found():
    copies = 2520 // np.arange(1, 11)
    w = np.repeat(np.eye(10), copies, axis=0)
    found = anisotropy(w, ranks=(1, 10)).compute()
    assert float(found["spectrum_slope"]) == pytest.approx(-1)
    np.testing.assert_allclose(found["spectrum"], copies / copies.sum())
    assert found["component"].values.tolist() == [*range(1, 11)]
    assert np.isnan(anisotropy(w)["spectrum_slope"])
    flat = float(anisotropy(np.repeat(np.eye(40), 3, axis=0), ranks=(10, 150))["spectrum_slope"])
    assert flat == pytest.approx(0, abs=1e-12)
    for ranks in [(0, 5), (5, 5), (7, 3)]:
        with pytest.raises(GeomsaeError, match="ranks"):
            anisotropy(w, ranks=ranks)


@pytest.mark.long
@given(
    st.integers(1, 9000), st.integers(1, 40), st.integers(1, 9000), st.sampled_from([1, 2, 3, 40])
)
@settings(max_examples=15)
def test_however_it_is_cut_it_is_the_same(n, d, rows, columns):
    w = np.random.default_rng(n).standard_normal((n, d)).astype(np.float32)
    whole = anisotropy(w).compute()
    cut = anisotropy(da.from_array(w, chunks=(min(rows, n), min(columns, d)))).compute()
    assert cut.equals(whole)
    labelled = anisotropy(xr.DataArray(w.T, dims=("d_model", "feature"))).compute()
    assert labelled.equals(whole)


@pytest.mark.parametrize("measure", [anisotropy, feature_dimensionality])
@pytest.mark.parametrize("rows", [512, 2048])
def test_only_a_few_blocks_are_in_memory(measure, rows):
    blocks = Blocks(60, 8, rows)
    found = measure(blocks.array)
    assert blocks.made == 0
    found.compute(scheduler="threads", num_workers=3)
    assert blocks.made == (60 if measure is anisotropy else 120)
    assert blocks.most * rows <= 9 * 2048


def test_labels_stay_and_nothing_is_read_early():
    w = xr.DataArray(
        da.from_array(np.eye(4, dtype=np.float32), chunks=2),
        dims=("feature", "d_model"),
        coords={"layer": 3, "norm": ("feature", np.ones(4)), "unit": ("d_model", [5, 6, 7, 8])},
        attrs={"sha256": "of other values"},
    )
    for found in (anisotropy(w), second_moment(w), feature_dimensionality(w), unit_rows(w)):
        assert dask.is_dask_collection(found)
        assert int(found["layer"]) == 3
        assert not found.attrs.get("sha256")
    assert set(unit_rows(w).coords) == {"layer", "norm", "unit"}
    assert set(feature_dimensionality(w).coords) == {"layer", "norm"}
    assert feature_dimensionality(w).dims == ("feature",)
    assert set(second_moment(w).coords) == {"layer", "unit"}
    assert second_moment(w)["second_moment"].dims == ("d_model", "other_d_model")
    assert unit_rows(xr.DataArray(np.eye(3), dims=("a", "b"))).dims == ("feature", "d_model")


@pytest.mark.parametrize("w", [np.ones(3), np.ones((2, 2, 2)), np.ones((0, 3)), np.array([["a"]])])
def test_what_is_no_decoder_is_refused(w):
    for function in (anisotropy, second_moment, feature_dimensionality, unit_rows):
        with pytest.raises(DecoderError, match="matrix"):
            function(w)


def test_rows_that_are_no_numbers_are_named():
    w = np.ones((5000, 2))
    w[4097, 1] = np.nan
    with pytest.raises(DecoderError, match="row 4097"):
        anisotropy(w).compute()


def test_a_real_dictionary(real):
    directions = load_file(real / "clip_vitb32_imagenet_directions.safetensors")["directions"]
    found = anisotropy(directions).compute()
    assert float(found["mean_cosine"]) == pytest.approx(0.600950, abs=1e-6)
    spread = float(found["mean_square_cosine"] - found["mean_cosine"] ** 2) ** 0.5
    assert spread == pytest.approx(0.080777, abs=1e-6)
    assert 2 < float(found["effective_dimension"]) < 3  # close to 1 / 0.6^2
    sae = load_file(real / "rf_classifier_sae_decoders.safetensors")["main.W_dec"]
    extreme = geomsae.cosine_histogram(sae, pairs=1).compute()
    assert float(coherence(extreme)) == pytest.approx(0.913199, abs=1e-6)
    own = feature_dimensionality(sae).compute()
    assert 0 < float(own.min()) < float(own.max()) <= 1
    assert float(own.sum()) < 128
    exact = 1 / (np.square(unit(sae) @ unit(sae).T)).sum(axis=1)
    np.testing.assert_allclose(own, exact, rtol=1e-12)


def test_the_welch_bound():
    assert welch_bound(5, 5) == welch_bound(1, 1) == welch_bound(3, 8) == 0
    assert welch_bound(6, 3) == pytest.approx(5**-0.5)  # the diagonals of an icosahedron
    assert welch_bound(16384, 2304) == pytest.approx(((16384 - 2304) / 2304 / 16383) ** 0.5)
    for sizes in [(0, 3), (3, 0)]:
        with pytest.raises(GeomsaeError, match="bound"):
            welch_bound(*sizes)


@given(decoders(), st.integers(1, 30))
@settings(max_examples=25)
def test_the_coherence_is_the_largest_cosine_of_all(w, pairs):
    exact = abs(cosines(w))
    found = coherence(geomsae.cosine_histogram(w, pairs=pairs).compute(scheduler="sync"))
    if exact.size == 0:
        assert np.isnan(found)
    else:
        assert float(found) == pytest.approx(exact.max(), abs=2e-6)


def test_the_coherence_keeps_its_labels_and_wants_the_extreme_pairs(store):
    list(geomsae.compute_histograms(store, pairs=4))
    key = next(iter(store.decoders))
    found = coherence(store.pairs(key))
    assert float(found) == pytest.approx(abs(cosines(store.decoder(key).values)).max(), abs=2e-6)
    assert found["model"].item() == "gpt"
    with pytest.raises(GeomsaeError, match="pairs=1"):
        coherence(geomsae.cosine_histogram(np.eye(3)))
