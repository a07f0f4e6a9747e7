"""One dictionary, counted in every way that comes to mind: ``python -m benchmarks.layer``.

Every way normalises the same random rows, counts the cosines of all unordered pairs of them into
the same 2,000 bins, and does all of that on the clock. Each run is a process of its own, which
first runs a small dictionary, so that nothing is compiled or imported on the clock. The ways take
turns, so that a machine that slows down slows all of them, in an order drawn anew for each round,
so that none always follows the one that leaves the memory cold. A first round watches memory, the
others take the time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import threadpoolctl
from dask.system import CPU_COUNT

import geomsae
from benchmarks.measure import Meter, available_bytes, print_table, versions
from geomsae.bins import DEFAULT_BINS
from geomsae.memory import empty
from geomsae.pairs import blas
from geomsae.pairs.plan import TILE, SuperTile, plan_triangle, tile_rows
from geomsae.sources.random import RandomDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]

BLOCK = 1024
"""Rows of the product that are held at a time, in the ways that go block by block."""

WARM_UP = (300, 64)
"""Shape of the dictionary that each process counts before the clock starts."""

HISTOGRAM: dict[str, Any] = {"bins": DEFAULT_BINS, "range": (-1.0, 1.0)}


@dataclass(frozen=True, slots=True)
class Task:
    """What one run is given.

    Parameters
    ----------
    n, d : int
        Shape of the dictionary.
    folder : str
        Where its store is.
    """

    n: int
    d: int
    folder: str

    def store(self, create: bool = False) -> geomsae.Store:
        """Open the store that holds this dictionary alone."""
        return geomsae.open_store(f"{self.folder}/{self.n}x{self.d}", create=create)

    def rows(self) -> Array:
        """Draw the dictionary."""
        return RandomDecoder(self.n, self.d).read(0, self.n)


def unit(rows: Array) -> Array:
    """Divide rows by their norms, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


COUNTS_ALONE: dict[str, Any] = {"thresholds": (), "neighbours": 0, "pairs": 0}


def through_store(task: Task, meter: Meter, **asked: Any) -> int:
    """Count with ``compute_histograms``, from and into a store."""
    store = task.store()
    for results in Path(store.location).rglob("results"):
        shutil.rmtree(results)
    with meter:
        list(geomsae.compute_histograms(store, **(asked or COUNTS_ALONE)))
    return int(store.histograms()["count"].sum())


def with_features(task: Task, meter: Meter) -> int:
    """Find degrees at four thresholds, nearest neighbours and 1,000 extreme pairs as well."""
    thresholds = (0.1, 0.2, 0.3, 0.5)
    return through_store(task, meter, thresholds=thresholds, neighbours=1, pairs=1000)


def on_one_thread(task: Task, meter: Meter) -> int:
    """Count as `through_store` does, on one thread."""
    with dask.config.set(num_workers=1):
        return through_store(task, meter)


def in_memory(task: Task, meter: Meter) -> int:
    """Count with ``cosine_histogram``, from memory."""
    rows = task.rows()
    with meter:
        histogram = geomsae.cosine_histogram(rows).compute()
    return int(histogram["count"].sum())


def tile_products(task: Task, meter: Meter, threads: int = CPU_COUNT) -> None:
    """Multiply the tiles that the plan has, on as many threads, and count nothing."""
    rows = unit(task.rows())
    local = threading.local()

    def multiply(super_tile: SuperTile) -> None:
        if not hasattr(local, "room"):
            local.room = empty((TILE * TILE,), "float32")
        for row, col in super_tile.tiles():
            one, other = (rows[slice(*tile_rows(tile, task.n))] for tile in (row, col))
            out = local.room[: len(one) * len(other)].reshape(len(one), len(other))
            if row == col:
                blas.gram(one, out)
            else:
                blas.product(one, other, out)

    with blas.single_threaded_blas(), ThreadPoolExecutor(threads) as pool, meter:
        list(pool.map(multiply, plan_triangle(task.n)))


def tile_products_on_one_thread(task: Task, meter: Meter) -> None:
    """Multiply as `tile_products` does, on one thread."""
    tile_products(task, meter, 1)


def best_product(task: Task, meter: Meter) -> None:
    """Multiply square matrices, on BLAS's threads or one on each thread, whichever is faster.

    The time is scaled to the operations of the lower triangle.
    """
    side = min(4096, task.n)
    a, b, *outs = np.zeros((2 + CPU_COUNT, side, side), np.float32)
    a += 1.5
    b += 0.5
    for out in outs:
        out += 1  # touched before the clock starts
    rates = []
    for _ in range(2):
        start = time.perf_counter()
        np.matmul(a, b, out=outs[0])
        rates.append(2 * side**3 / (time.perf_counter() - start))
        with threadpoolctl.threadpool_limits(1, "blas"), ThreadPoolExecutor(CPU_COUNT) as pool:
            start = time.perf_counter()
            list(pool.map(lambda out: np.matmul(a, b, out=out), outs))
            rates.append(CPU_COUNT * 2 * side**3 / (time.perf_counter() - start))
    meter.seconds = _operations(task.n, task.d) / max(rates)


def published(task: Task, meter: Meter) -> int:
    """Form the whole product, take its lower triangle by index, and histogram that."""
    rows = task.rows()
    with meter:
        unit(rows)
        cosines = rows @ rows.T
        count, _ = np.histogram(cosines[np.tril_indices(task.n, k=-1)], **HISTOGRAM)
    return int(count.sum())


def numpy_blocks(task: Task, meter: Meter) -> int:
    """Go by blocks of rows in NumPy, on and below the diagonal only."""
    rows = task.rows()
    count = np.zeros(DEFAULT_BINS, np.int64)
    with meter:
        unit(rows)
        for first in range(0, task.n, BLOCK):
            block = rows[first : first + BLOCK]
            product = block @ rows[: first + len(block)].T
            diagonal = product[:, first:][np.tril_indices(len(block), k=-1)]
            for cosines in (product[:, :first], diagonal):
                count += np.histogram(cosines, **HISTOGRAM)[0]
    return int(count.sum())


def torch_blocks(task: Task, meter: Meter) -> int:
    """Go by blocks of rows in PyTorch, whose ``histc`` counts in float32."""
    import torch

    rows = torch.from_numpy(task.rows())
    count = torch.zeros(DEFAULT_BINS)
    with meter:
        rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        for first in range(0, task.n, BLOCK):
            block = rows[first : first + BLOCK]
            product = block @ rows[: first + len(block)].T
            below = torch.ones(len(block), len(block), dtype=torch.bool).tril(-1)
            for cosines in (product[:, :first], product[:, first:][below]):
                count += torch.histc(cosines, DEFAULT_BINS, -1.0, 1.0)
    return int(count.double().sum())


def naive_dask(task: Task, meter: Meter) -> int:
    """Write the whole product in ``dask.array``; the zeros of the upper triangle leave again."""
    import dask.array as da

    rows = task.rows()
    with meter:
        lazy = da.from_array(unit(rows), chunks=(TILE, -1))
        count, _ = da.histogram(da.tril(lazy @ lazy.T, k=-1), **HISTOGRAM)
        count = count.compute()
        count[DEFAULT_BINS // 2] -= task.n * (task.n + 1) // 2
    return int(count.sum())


def _operations(n: int, d: int) -> int:
    """Floating-point operations of the products below the diagonal."""
    return n * n * d


@dataclass(frozen=True, slots=True)
class Way:
    """One row of the table.

    Parameters
    ----------
    name : str
        What the row is called.
    run : callable
        Does it, the part to be measured inside the meter; returns the pairs counted, if any were.
    squares : float
        Memory that it takes, in float32 matrices of n by n; 0 where it does not grow like that.
    """

    name: str
    run: Callable[[Task, Meter], int | None]
    squares: float = 0


WAYS = (
    Way("geomsae, from and into a store", through_store),
    Way("geomsae, with degrees, neighbours, pairs", with_features),
    Way("geomsae, in memory", in_memory),
    Way("its tile products alone", tile_products),
    Way("geomsae, one thread", on_one_thread),
    Way("its tile products alone, one thread", tile_products_on_one_thread),
    Way("best float32 product", best_product),
    Way("published: W @ W.T, tril_indices, np.histogram", published, 4),
    Way("NumPy, row blocks, np.histogram", numpy_blocks),
    Way("PyTorch, row blocks, histc", torch_blocks),
    Way("dask.array: D @ D.T, da.tril, da.histogram", naive_dask),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run gave: time or memory, and the pairs counted."""

    seconds: float
    added: int
    counted: int | None


def measure(way: Way, task: Task, watch: bool) -> Measured:
    """Run a way once in this process, after a small dictionary to warm up."""
    way.run(Task(*WARM_UP, task.folder), Meter(watch=False))
    meter = Meter(watch)
    counted = way.run(task, meter)
    return Measured(meter.seconds, meter.added, counted)


def obstacle(way: Way, n: int) -> str:
    """Why a way cannot run here; empty if it can."""
    if way.run is torch_blocks and not find_spec("torch"):
        return "not installed"
    if way.squares * 4 * n * n > 0.7 * available_bytes():
        return "does not fit"
    return ""


def take_turns(ways: list[Way], task: Task, repeats: int) -> dict[str, list[Measured]]:
    """Run ways in turn, each run a process: first for memory, then `repeats` times for time."""
    found: dict[str, list[Measured]] = {way.name: [] for way in ways}
    for repeat in range(repeats + 1):
        for way in random.Random(repeat).sample(ways, len(ways)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                run = pool.submit(measure, way, task, watch=repeat == 0).result()
            found[way.name].append(run)
    return found


def row(way: Way, runs: list[Measured], task: Task, ours: float) -> list[str]:
    """Write the cells of one way."""
    name, memory, check = way.name, f"{runs[0].added / 1e6:,.0f}", "-"
    seconds = median(run.seconds for run in runs[1:])
    if way.run is best_product:
        name += f", {_operations(task.n, task.d) / seconds / 1e9:,.0f} GFLOP/s"
        memory = "-"
    if runs[0].counted is not None:
        off = runs[0].counted - task.n * (task.n - 1) // 2
        check = f"{off:+,}" if off else "all"
    return [name, f"{seconds:.2f}", f"{seconds / ours:.2f}", memory, check]


def compare(n: int, d: int, repeats: int, without: list[str]) -> None:
    """Measure one shape, and print its table."""
    with tempfile.TemporaryDirectory() as folder:
        task = Task(n, d, folder)
        for each in (Task(*WARM_UP, folder), task):
            list(geomsae.convert(f"random:{each.n}x{each.d}", each.store(create=True)))
        asked = [way for way in WAYS if not any(text in way.name for text in without)]
        barred = {way.name: obstacle(way, n) for way in asked}
        found = take_turns([way for way in asked if not barred[way.name]], task, repeats)
    ours = median(run.seconds for run in found[WAYS[0].name][1:])
    rows = [
        [way.name, barred[way.name], "", "", ""]
        if barred[way.name]
        else row(way, found[way.name], task, ours)
        for way in asked
    ]
    print(f"{n:,} x {d:,}, {n * (n - 1) // 2:,} pairs, median of {repeats}; ", end="")
    print(f"{versions('numpy', 'numba', 'dask', 'zarr', 'torch')}\n")
    print_table(("way", "seconds", "times ours", "MB added", "pairs counted"), rows)
    shares = "\n".join(_shares(found))
    print(f"\n{shares}\n", flush=True)


def _shares(found: dict[str, list[Measured]]) -> Iterator[str]:
    """Give the ratios that are claimed, each the median over the rounds of one run."""
    runs = {way.run: found.get(way.name, []) for way in WAYS}

    def ratios(way: Any, over: Any) -> list[float]:
        pairs = zip(runs[way][1:], runs[over][1:], strict=False)  # of one left out there are none
        return [one.seconds / other.seconds for one, other in pairs]

    for name, way, over in (
        ("products alone over ours, from store to store", tile_products, through_store),
        ("products alone over ours, in memory", tile_products, in_memory),
        (
            "products alone over ours, with degrees, neighbours and pairs",
            tile_products,
            with_features,
        ),
        ("published way over ours, from store to store", published, through_store),
        ("published way over ours, in memory", published, in_memory),
        ("published way over the best float32 product", published, best_product),
    ):
        if shares := ratios(way, over):
            yield f"{name}: {median(shares):.3g}"
    ours = ratios(on_one_thread, through_store)
    bare = ratios(tile_products_on_one_thread, tile_products)
    if both := [one / other for one, other in zip(ours, bare, strict=False)]:
        yield f"speed-up by the second thread, ours over that of the products: {median(both):.3g}"


def main() -> None:
    """Measure each shape that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[16384], help="directions")
    parser.add_argument("--d", type=int, nargs="+", default=[2304], help="dimensions")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each way")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="TEXT", help="leave out ways with it in a name"
    )
    given = parser.parse_args()
    if any(text in WAYS[0].name for text in given.without):
        parser.error(f"the others are compared with '{WAYS[0].name}': it cannot be left out")
    for n in given.n:
        for d in given.d:
            compare(n, d, given.repeats, given.without)


if __name__ == "__main__":
    main()
