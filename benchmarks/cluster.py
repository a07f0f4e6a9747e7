"""Two worker processes beside one process of two threads: ``python -m benchmarks.cluster``.

The same dictionary is counted by both, in turns, from a store of its own each time, so that neither
is slowed down by what the other left. What is printed is the median over the rounds of the ratio
within a round: how much of the speed of one process a cluster on the same machine has.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from distributed import Client

import geomsae
from benchmarks.measure import versions
from tests.clusters import Cluster


def counted(drawn: Path, place: Path) -> tuple[float, np.ndarray]:
    """Seconds that counting a copy of a store takes, and what came out."""
    store = geomsae.open_store(shutil.copytree(drawn, place))
    began = time.perf_counter()
    list(geomsae.compute_histograms(store))
    seconds = time.perf_counter() - began
    counts = store.histograms()["count"].values
    shutil.rmtree(place)
    return seconds, counts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=16384)
    parser.add_argument("--d", type=int, default=2304)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn, place = Path(folder) / "drawn", Path(folder) / "store"
        store = geomsae.open_store(drawn, create=True)
        list(geomsae.convert(f"random:{words.n}x{words.d}", store))
        rounds = []
        with Cluster(Path(folder) / "cluster", workers=words.workers) as cluster:
            for repeat in range(words.repeats + 1):  # the first compiles and imports
                alone, expected = counted(drawn, place)
                with Client(scheduler_file=str(cluster.file)):
                    together, counts = counted(drawn, place)
                assert np.array_equal(counts, expected)
                if repeat:
                    rounds.append((alone, together))
    ratio = median(alone / together for alone, together in rounds)
    print(f"{words.n:,} x {words.d:,}, median of {words.repeats}; {versions()}")
    print(f"one process, its threads:   {median(alone for alone, _ in rounds):.2f} s")
    print(f"{words.workers} worker processes:        {median(both for _, both in rounds):.2f} s")
    print(
        f"speed of the cluster over that of one process: {ratio:.3f}; counts the same, bit for bit"
    )


if __name__ == "__main__":
    main()
