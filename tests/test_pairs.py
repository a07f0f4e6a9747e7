import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
import threadpoolctl
import xarray as xr
from brute_force import assert_counts, cosines
from hypothesis import given, settings
from hypothesis import strategies as st

from geomsae import cosine_histogram
from geomsae.errors import ConservationError, DecoderError, GeomsaeError
from geomsae.pairs import cpu
from geomsae.pairs.blas import single_threaded_blas
from geomsae.pairs.plan import TILE, pairs_in, plan_rectangle, plan_triangle, tiles_along
from geomsae.pairs.schedule import run


@given(st.integers(1, 400 * TILE))
@settings(max_examples=30)
def test_the_triangle_is_covered_once(n):
    tiles = Counter(tile for part in plan_triangle(n) for tile in part.tiles())
    side = tiles_along(n)
    assert set(tiles) == {(row, col) for row in range(side) for col in range(row + 1)}
    assert set(tiles.values()) == {1}
    assert sum(pairs_in(part, n, n) for part in plan_triangle(n)) == n * (n - 1) // 2


@given(st.integers(1, 60 * TILE), st.integers(1, 60 * TILE))
@settings(max_examples=30)
def test_the_rectangle_is_covered_once(n, m):
    tiles = Counter(tile for part in plan_rectangle(n, m) for tile in part.tiles())
    assert len(tiles) == tiles_along(n) * tiles_along(m)
    assert set(tiles.values()) == {1}
    assert sum(pairs_in(part, n, m) for part in plan_rectangle(n, m)) == n * m


@st.composite
def decoders(draw):
    """Rows with duplicates, antipodes, zeros, and norms from tiny to huge."""
    n, d = draw(st.integers(1, 700)), draw(st.sampled_from([1, 2, 3, 17, 64, 200]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.standard_normal((n, d)).astype(np.float32)
    for factor in draw(st.lists(st.sampled_from([1, -2, 0, 1e-15, 1e12]), max_size=20)):
        i, j = rng.integers(n, size=2)
        rows[i] = np.clip(rows[j] * np.float64(factor), -1e30, 1e30)
    if draw(st.booleans()):
        rows = (rows.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return rows


@given(decoders(), st.sampled_from([2000, 200, 7]), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40)
def test_counts_agree_with_float64_brute_force(rows, bins, precision):
    hist = cosine_histogram(rows, bins=bins, precision=precision).compute(scheduler="sync")
    assert_counts(hist, cosines(rows))
    assert int(hist.n_excluded) == (np.abs(rows).max(axis=1) == 0).sum()


@given(decoders(), st.integers(1, 50))
@settings(max_examples=15)
def test_counts_of_two_dictionaries_agree_with_float64_brute_force(rows, m):
    other = np.random.default_rng(m).standard_normal((m, rows.shape[1]))
    hist = cosine_histogram(rows, other).compute(scheduler="sync")
    assert_counts(hist, cosines(rows, other))


@pytest.mark.parametrize("n", [TILE - 1, TILE, TILE + 1, 2 * TILE + 300])
def test_counts_agree_across_the_borders_of_tiles(n):
    rows = np.random.default_rng(n).standard_normal((n, 24)).astype(np.float32)
    rows[::97] = rows[5]
    rows[n // 2] = 0
    assert_counts(cosine_histogram(rows).compute(), cosines(rows))


@pytest.mark.parametrize("d", [768, 4096])
def test_counts_agree_in_many_dimensions(d):
    rows = np.random.default_rng(d).standard_normal((1500, d)).astype(np.float32)
    rows += 0.5 * rows[0]
    assert_counts(cosine_histogram(rows).compute(), cosines(rows))


def test_counts_are_the_same_on_every_scheduler_and_for_every_chunking():
    rows = np.random.default_rng(3).standard_normal((3000, 40)).astype(np.float32)
    expected = cosine_histogram(rows).compute(scheduler="sync")
    lazy = da.from_array(rows, chunks=(701, 13))
    for made, options in [
        (cosine_histogram(rows), {"scheduler": "threads", "num_workers": 3}),
        (cosine_histogram(lazy), {"scheduler": "threads", "num_workers": 1}),
        (cosine_histogram(xr.DataArray(lazy, dims=("feature", "d_model"))), {}),
        (cosine_histogram(xr.DataArray(rows.T, dims=("d_model", "feature"))), {}),
    ]:
        assert made.compute(**options).equals(expected)


def test_it_is_lazy():
    def never(block):
        raise AssertionError("was computed")

    lazy = da.from_array(np.ones((4, 4)), chunks=2).map_blocks(never, meta=np.ones((0, 0)))
    hist = cosine_histogram(lazy)
    assert dask.is_dask_collection(hist)
    assert hist.sizes == {"cosine": 2000}


def test_labels_of_the_matrix_stay():
    rows = xr.DataArray(np.eye(3), dims=("feature", "d_model"), coords={"layer": 12})
    assert int(cosine_histogram(rows)["layer"]) == 12


@pytest.mark.parametrize(
    "rows",
    [np.ones(3), np.ones((2, 0)), np.ones((2, 2), complex), np.array([["a"]]), np.float64(1)],
)
def test_what_is_no_matrix_is_refused(rows):
    with pytest.raises(DecoderError, match="matrix of real numbers"):
        cosine_histogram(rows)


def test_directions_of_different_spaces_are_refused():
    with pytest.raises(DecoderError, match="different spaces"):
        cosine_histogram(np.ones((2, 3)), np.ones((2, 4)))


def test_an_unknown_precision_is_refused():
    with pytest.raises(GeomsaeError, match="float16"):
        cosine_histogram(np.ones((2, 2)), precision="float16")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_no_numbers_are_refused_with_their_number(value):
    rows = np.ones((2500, 4))
    rows[2100, 2] = value
    with pytest.raises(DecoderError, match="row 2100"):
        cosine_histogram(rows).compute(scheduler="sync")


def test_a_lost_row_breaks_the_law_of_sums(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32) + 1
    right = cpu.add_triangle

    def one_row_doubled(tally, panel, ask):
        unit = panel.unit.copy()
        unit[3] = unit[4]
        return right(tally, replace(panel, unit=unit), ask)

    monkeypatch.setattr(cpu, "add_triangle", one_row_doubled)
    with pytest.raises(ConservationError, match="thrown away"):
        cosine_histogram(rows).compute(scheduler="sync")


def test_a_lost_count_breaks_the_law_of_pairs(monkeypatch):
    right = cpu.add_triangle

    def one_count_lost(tally, panel, ask):
        total = right(tally, panel, ask)
        tally.count[tally.count.argmax()] -= 1
        return total

    monkeypatch.setattr(cpu, "add_triangle", one_count_lost)
    with pytest.raises(ConservationError, match="were counted of"):
        cosine_histogram(np.random.default_rng(0).standard_normal((9, 4))).compute(scheduler="sync")


def test_a_lost_degree_breaks_the_law_of_degrees(monkeypatch):
    right = cpu.add_triangle

    def one_degree_lost(tally, panel, ask):
        total = right(tally, panel, ask)
        tally.rows.degree[0, -1] -= 1
        return total

    monkeypatch.setattr(cpu, "add_triangle", one_degree_lost)
    rows = np.random.default_rng(0).standard_normal((9, 4))
    with pytest.raises(ConservationError, match=r"degrees at 0\.1"):
        cosine_histogram(rows, thresholds=[0.1]).compute(scheduler="sync")


def test_the_sum_of_squared_cosines_is_conserved():
    rows = np.random.default_rng(8).standard_normal((900, 30))
    hist = cosine_histogram(rows, bins=200_000).compute()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    exact = (np.linalg.norm(unit.T @ unit) ** 2 - len(rows)) / 2
    assert float((hist["count"] * hist["cosine"] ** 2).sum()) == pytest.approx(exact, rel=1e-5)


def blas_threads():
    found = threadpoolctl.threadpool_info()
    return {info["filepath"]: info["num_threads"] for info in found if info["user_api"] == "blas"}


def test_tasks_run_in_the_order_of_the_plan():
    seen, finished = [], []
    with dask.config.set(scheduler="synchronous"):
        run(lambda task: seen.append(task) or task, [(i,) for i in range(40)], finished.append)
    assert seen == finished == list(range(40))


def test_every_thread_has_one_blas_thread_and_the_last_to_leave_restores_them():
    before = blas_threads()
    together = threading.Barrier(3)

    def inside():
        with single_threaded_blas():
            together.wait(30)
            seen = set(blas_threads().values())
            together.wait(30)
        return seen

    with ThreadPoolExecutor(3) as pool:
        seen = [pool.submit(inside) for _ in range(3)]
        assert [thread.result(60) for thread in seen] == [{1}] * 3
    assert blas_threads() == before
    with single_threaded_blas():
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before
