"""One file into the store, beside the same by hand: ``python -m benchmarks.convert``.

By hand means: the member of the ``.npz`` is read from its plain bytes, block by block, and written
into a Zarr array with the same chunks and codecs; nothing is normalised, hashed, checked or
committed. Each run is a process of its own; the ways take turns. A first round watches memory, the
others take the time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

import geomsae
from benchmarks.measure import Meter, print_table, versions
from geomsae.sources import Wanted
from geomsae.sources.file import LocalFile
from geomsae.sources.npy import npz_tensors
from geomsae.sources.random import RandomDecoder
from geomsae.store.layout import chunk_rows, create_array

if TYPE_CHECKING:
    from collections.abc import Callable


def write_file(path: Path, n: int, d: int) -> None:
    """Write a decoder as Gemma Scope lays it out."""
    rows = RandomDecoder(n, d).read(0, n)
    np.savez(path, W_enc=rows.reshape(d, n), W_dec=rows, b_enc=rows[:, 0].copy(), b_dec=rows[0])


def through_convert(path: Path, folder: Path, meter: Meter) -> None:
    """Convert with geomsae."""
    store = geomsae.open_store(folder / "store", create=True)
    with meter:
        list(geomsae.convert(str(path), store, Wanted(model="m", tensor="W_dec")))


def by_hand(path: Path, folder: Path, meter: Meter) -> None:
    """Read the member and write the array."""
    import zarr

    with meter:
        (tensor,) = [t for t in npz_tensors(LocalFile(path)) if t.key == "W_dec"]
        n, d = tensor.shape
        rows = chunk_rows(n, d)
        target = zarr.storage.LocalStore(folder / "zarr")
        array = create_array(target, "W_dec", (n, d), (rows, d), "float32", ("a", "b"), {})
        with path.open("rb") as file:
            file.seek(tensor.offset)
            for first in range(0, n, rows):
                height = min(rows, n - first)
                block = np.frombuffer(file.read(4 * height * d), "<f4").reshape(height, d)
                array[first : first + height] = block


WAYS: dict[str, Callable[[Path, Path, Meter], None]] = {
    "geomsae convert": through_convert,
    "member read, array written": by_hand,
}


def measure(way: str, small: Path, path: Path, watch: bool) -> tuple[float, int]:
    """Run a way once in this process, after a small file to warm up."""
    for file, meter in ((small, Meter(watch=False)), (path, Meter(watch))):
        folder = Path(tempfile.mkdtemp(dir=path.parent))
        WAYS[way](file, folder, meter)
        shutil.rmtree(folder)
    return meter.seconds, meter.added


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16384, help="features")
    parser.add_argument("--d", type=int, default=2304, help="dimensions")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each way")
    given = parser.parse_args()
    found: dict[str, list[tuple[float, int]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        small, path = Path(folder, "small.npz"), Path(folder, "params.npz")
        write_file(small, 64, 8)
        write_file(path, given.n, given.d)
        for repeat in range(given.repeats + 1):
            for way in WAYS:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    run = pool.submit(measure, way, small, path, watch=repeat == 0)
                    found[way].append(run.result())
    ours = median(seconds for seconds, _ in found["geomsae convert"][1:])
    rows = []
    for way, runs in found.items():
        seconds = median(seconds for seconds, _ in runs[1:])
        speed = 4 * given.n * given.d / seconds / 1e6
        rows.append(
            [
                way,
                f"{seconds:.2f}",
                f"{speed:,.0f}",
                f"{ours / seconds:.2f}",
                f"{runs[0][1] / 1e6:,.0f}",
            ]
        )
    print(f"{given.n:,} x {given.d:,}, median of {given.repeats}; {versions('numpy', 'zarr')}\n")
    print_table(("way", "seconds", "MB/s", "ours over it", "MB added"), rows)


if __name__ == "__main__":
    main()
