"""One dictionary, counted on a GPU in every way: ``python -m benchmarks.gpu``.

Every row of the table counts the cosines of all unordered pairs of the same random directions into
2,000 bins. What is read from a store is read from this machine's disk, or what it keeps of it in
memory; all else begins with unit rows that lie on the card. Ways that share the card, as all of one
precision do, run once to warm up, then take turns, in an order drawn anew for each round; the table
gives medians. A way that would need more than the card has is not run.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import geomsae
from benchmarks.measure import print_table
from geomsae.ask import Ask
from geomsae.bins import DEFAULT_BINS
from geomsae.pairs import gpu
from geomsae.pairs.gpu import card, launch
from geomsae.pairs.gpu.counter import UNDER_WAY, counting
from geomsae.pairs.gpu.product import multiply
from geomsae.pairs.plan import TILE, tile_rows, tiles_along
from geomsae.pairs.tally import Tally
from geomsae.results import usual_ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRECISIONS = ("float32", "fp16x3", "tf32", "float64")

PRODUCTS = {"float32": 1, "fp16x3": 3, "tf32": 1, "float64": 1}
"""How many products a precision takes."""

ALL_OPERATIONS = 1.8e17
"""Floating-point operations of the triangles of all 2,430 dictionaries of Gemma Scope."""

ALL_BYTES = 2.6e12
"""Bytes of their decoders in float32."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to count: what it is called, how it is done, and whether it fits."""

    name: str
    run: Callable[[], object] | None
    fits: bool = True
    product: str = ""
    """The way that is its product alone."""


class Panels:
    """The unit rows of one dictionary on the card, in one precision."""

    def __init__(self, rows: Any, precision: str) -> None:
        self.n = len(rows)
        self.precision = precision
        spans = (tile_rows(tile, self.n) for tile in range(tiles_along(self.n)))
        self.panels = [gpu.make_panel(rows[a:b], precision, a) for a, b in spans]

    def tiles(self) -> Iterator[tuple[Any, Any]]:
        """Rows and columns of every tile on and below the diagonal."""
        for number, rows in enumerate(self.panels):
            for cols in self.panels[: number + 1]:
                yield rows, cols

    def count(self, ask: Ask) -> None:
        """Count as geomsae does."""
        ask = replace(ask, precision=self.precision)
        tally = Tally.empty(ask, range(self.n), range(self.n))
        with counting(tally, ask) as counter:
            for rows, cols in self.tiles():
                if rows is cols:
                    counter.add_triangle(rows)
                else:
                    counter.add_rectangle(rows, cols)
        pairs = self.n * (self.n - 1) // 2
        if tally.count.sum() != pairs:
            raise SystemExit(f"{tally.count.sum():,} pairs were counted of {pairs:,}")

    def multiply(self) -> None:
        """Compute the same products, and nothing else."""
        import cupy

        side = min(self.n, TILE)
        dtype = Ask(precision=self.precision).dtype
        buffers = [cupy.empty(side * side, dtype) for _ in range(UNDER_WAY)]
        for number, (rows, cols) in enumerate(self.tiles()):
            out = buffers[number % UNDER_WAY][: rows.rows * cols.rows]
            multiply(self.precision, rows, cols, out.reshape(rows.rows, cols.rows))
        cupy.cuda.Device().synchronize()

    def with_histogram(self) -> None:
        """Bin each product by ``cupy.histogram``; its edges are not those of geomsae, exactly."""
        import cupy

        total = cupy.zeros(DEFAULT_BINS, np.int64)
        out = cupy.empty((min(self.n, TILE),) * 2, np.float32)
        for rows, cols in self.tiles():
            part = out.ravel()[: rows.rows * cols.rows].reshape(rows.rows, cols.rows)
            multiply(self.precision, rows, cols, part)
            total += cupy.histogram(part, DEFAULT_BINS, (-1.0, 1.0))[0]
        total.get()


def published(rows: Any) -> None:
    """The published script, with CuPy in the place of NumPy."""
    import cupy

    w = cupy.asarray(rows)
    w /= cupy.linalg.norm(w, axis=1, keepdims=True)
    cosines = w @ w.T
    below = cosines[cupy.tril_indices(len(w), -1)]
    cupy.histogram(below, cupy.linspace(-1, 1, DEFAULT_BINS + 1))[0].get()


def with_torch(rows: Any) -> None:
    """PyTorch, 4,096 rows at a time, on and below the diagonal."""
    import torch

    w = torch.from_numpy(rows).cuda()
    w /= w.norm(dim=1, keepdim=True)
    total = torch.zeros(DEFAULT_BINS, dtype=torch.float64, device="cuda")
    for first in range(0, len(w), 4096):
        some = w[first : first + 4096]
        cosines = some @ w[: first + len(some)].T
        below = torch.ones_like(cosines, dtype=torch.bool).tril(first - 1)
        total += torch.histc(cosines[below], DEFAULT_BINS, -1, 1)
    total.cpu()


def has_torch() -> bool:
    """Whether PyTorch is here, and finds the card."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def binning_rates(d: int) -> Iterator[tuple[int, float]]:
    """Values binned in a second, of a tile of near-zero cosines of so many dimensions."""
    import cupy

    cosines = (np.random.default_rng(0).standard_normal((TILE, TILE)) / d**0.5).astype(np.float32)
    there = cupy.asarray(cosines)
    nothing, sides = cupy.zeros(0, np.int32), cupy.zeros((0, TILE), np.int32)
    for bins in (DEFAULT_BINS, 200):
        count, total = cupy.zeros(bins, np.uint64), cupy.zeros(1, np.float64)
        words = (there, TILE, count, total, nothing, sides, sides)
        launch.count_pairs(*words)
        cupy.cuda.Device().synchronize()
        began = time.perf_counter()
        for _ in range(200):
            launch.count_pairs(*words)
        cupy.cuda.Device().synchronize()
        yield bins, 200 * TILE**2 / (time.perf_counter() - began)


def groups(rows: Any, store: geomsae.Store) -> Iterator[list[Way]]:
    """Every way that there is, in groups that take turns: one has the card for itself."""
    counts, usual = Ask(), usual_ask()
    yield [
        Way(
            f"geomsae, {precision}, from store to store",
            lambda p=precision: count_store(store, p),
            product=f"products alone, {precision}",
        )
        for precision in PRECISIONS
    ]
    gpu.keep_within(0)  # without a limit, whatever those kept to
    for precision in PRECISIONS:
        panels = Panels(rows, precision)
        ours, alone = f"geomsae, {precision}", f"products alone, {precision}"
        group = [
            Way(alone, panels.multiply),
            Way(ours, lambda p=panels: p.count(counts), product=alone),
            Way(f"{ours}, with features and pairs", lambda p=panels: p.count(usual), product=alone),
        ]
        if precision == "float32":
            group.append(Way("products, cupy.histogram", panels.with_histogram, product=alone))
        yield group
        del panels, group
        gpu.forget()
    # The product, its lower triangle, two numbers for each index of it, and what is made of them.
    fits = len(rows) ** 2 * (4 + 2 + 16 + 8) < card.free_memory()
    yield [
        Way("published, in CuPy", lambda: published(rows), fits),
        Way("PyTorch, row blocks, histc", lambda: with_torch(rows), has_torch()),
    ]


def count_store(store: geomsae.Store, precision: str) -> None:
    """Count a stored dictionary, and put what comes out away."""
    import shutil

    list(geomsae.compute_histograms(store, device="gpu", precision=precision, **COUNTS))
    (key,) = store.decoders
    shutil.rmtree(f"{store.location}/{key}/results")


COUNTS: dict[str, Any] = {"thresholds": (), "neighbours": 0, "pairs": 0}


def measure(n: int, d: int, repeats: int) -> None:
    """Print the table of one shape."""
    rows = np.random.default_rng(0).standard_normal((n, d), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store = geomsae.open_store(f"{folder}/store", create=True)
        list(geomsae.convert(f"random:{n}x{d}", store))
        all_ways: list[Way] = []
        seconds: dict[str, list[float]] = {}
        for group in groups(rows, store):
            all_ways += [replace(way, run=None) for way in group]
            seconds |= {way.name: [] for way in group}
            for round_number in range(repeats + 1):
                for way in random.sample(group, len(group)):
                    if way.fits:
                        began = time.perf_counter()
                        way.run()
                        if round_number:  # the first warms up
                            seconds[way.name].append(time.perf_counter() - began)
            del group, way
    print(f"\n{n:,} x {d:,} on {card.describe()}, median of {repeats}\n")
    table = [_line(way, seconds, n, d) for way in all_ways]
    heads = ["way", "seconds", "of its product", "TFLOP/s", "GB/s fed", "all of Gemma Scope, h"]
    print_table(heads, table)
    best = median(seconds["geomsae, float32"])
    for other in ("geomsae, fp16x3", "published, in CuPy"):
        if seconds[other]:
            print(f"{other} over geomsae, float32: {median(seconds[other]) / best:.2f}")


def _line(way: Way, seconds: dict[str, list[float]], n: int, d: int) -> list[str]:
    if not seconds[way.name]:
        return [
            way.name,
            "does not fit" if "torch" not in way.name.lower() else "not here",
            *"----",
        ]
    took = median(seconds[way.name])
    operations = n * (n - 1) * d
    precision = way.name.split(", ")[1] if ", " in way.name else ""
    share = f"{median(seconds[way.product]) / took:.3f}" if way.product else "-"
    fed = f"{4 * n * d / took / 1e9:.1f}" if "store" in way.name else "-"
    hours = ALL_OPERATIONS / (operations / took) / 3600
    if "store" in way.name:
        hours = max(hours, ALL_BYTES / (4 * n * d / took) / 3600)
    rate = operations * PRODUCTS.get(precision, 1) / took / 1e12
    return [way.name, f"{took:.4f}", share, f"{rate:.1f}", fed, f"{hours:.2f}"]


def main() -> None:
    """Measure every shape that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.gpu")
    parser.add_argument("--n", type=int, nargs="+", default=[16_384, 65_536, 262_144])
    parser.add_argument("--d", type=int, nargs="+", default=[2304, 3584])
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    card.check_card("float32")
    for d in words.d:
        for bins, rate in binning_rates(d):
            print(f"near-zero cosines of {d:,} dimensions into {bins:,} bins: {rate:.2e} a second")
        for n in words.n:
            measure(n, d, words.repeats)


if __name__ == "__main__":
    main()
