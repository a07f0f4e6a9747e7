"""Codecs for decoder rows: how small, how fast: ``python -m benchmarks.codecs``.

A random decoder, and the same rounded to bfloat16 as many published weights once were, is written
in chunks of whole rows and read again, one at a time. Every codec is followed by the checksum
crc32c. Files are read from the page cache, and not forced to disk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from benchmarks.measure import print_table, versions
from geomsae.sources.random import RandomDecoder
from geomsae.store.layout import chunk_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODECS: dict[str, list[Any]] = {
    "none": [],
    "zstd (Zarr's default)": [ZstdCodec()],
    "blosc-lz4-bitshuffle": [BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")],
    "blosc-zstd-bitshuffle": [BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")],
}


def rounded_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest bfloat16, ties to even, kept as float32."""
    bits = values.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def measure(values: NDArray[np.float32], codecs: list[Any]) -> tuple[float, float, float]:
    """Size ratio, and bytes per second written and read, of one array with one codec."""
    rows = chunk_rows(*values.shape)
    starts = range(0, len(values), rows)
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            zarr.storage.LocalStore(folder),
            shape=values.shape,
            chunks=(rows, values.shape[1]),
            dtype="float32",
            compressors=[*codecs, Crc32cCodec()],
        )
        begun = time.perf_counter()
        for first in starts:
            array[first : first + rows] = values[first : first + rows]
        written = time.perf_counter()
        for first in starts:
            array[first : first + rows]
        read = time.perf_counter()
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return (
        values.nbytes / stored,
        values.nbytes / (written - begun),
        values.nbytes / (read - written),
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16384, help="directions")
    parser.add_argument("--d", type=int, default=2304, help="dimensions")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each codec")
    given = parser.parse_args()
    drawn = RandomDecoder(given.n, given.d).read(0, given.n)
    arrays = {"float32": drawn, "bfloat16": rounded_to_bfloat16(drawn)}
    for values in arrays.values():  # threads, imports and memory, before the clock starts
        measure(values, [])
    runs: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for _ in range(given.repeats):
        for kind, values in arrays.items():
            for name, codecs in CODECS.items():
                runs.setdefault((kind, name), []).append(measure(values, codecs))
    print(f"{given.n:,} x {given.d:,}, chunks of {chunk_rows(given.n, given.d):,} rows, ", end="")
    print(f"median of {given.repeats}; {versions('zarr', 'numcodecs')}\n")
    rows = []
    for (kind, name), found in runs.items():
        ratio, write, read = (median(column) for column in zip(*found, strict=True))
        rows.append(
            (f"{kind}, {name}", f"{ratio:.2f}", f"{write / 1e6:,.0f}", f"{read / 1e6:,.0f}")
        )
    print_table(("values, codec", "times smaller", "write MB/s", "read MB/s"), rows)


if __name__ == "__main__":
    main()
