"""Single bits of a store flipped, one at a time: ``python -m tests.flips 500``.

Each has to be found by `verify`, and named by its dictionary, or be shown to lie in bytes that
carry no meaning: what the store says, read without them, is the same.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import geomsae
from geomsae.errors import StoreError
from geomsae.sources import Wanted
from geomsae.store.repair import damaged_root
from geomsae.verification import Finding, verify

SEED = 5


def make_store(folder: Path) -> Path:
    """Three dictionaries of two variants, one with a tag below another, all of them counted."""
    store = geomsae.open_store(folder / "store", create=True)
    for seed, labels in enumerate(
        (
            {"variant": "pt", "layer": "0", "width": "64", "l0": "40"},
            {"variant": "it", "layer": "10", "width": "64", "l0": "82"},
            {"variant": "it", "layer": "10", "width": "64", "l0": "82", "tag": "affine"},
        )
    ):
        rows = np.random.default_rng(seed).standard_normal((64, 16)).astype(np.float32)
        np.save(folder / f"{seed}.npy", rows)
        wanted = Wanted(model="gpt", **labels)
        list(geomsae.convert(str(folder / f"{seed}.npy"), store, wanted))
    list(geomsae.compute_histograms(store, pairs=20))
    return Path(store.location)


def kind_of(file: Path) -> str:
    """What kind of file of a store this is: metadata of what, or chunks of which array."""
    if file.name != "zarr.json":
        return f"chunk of {file.parts[file.parts.index('c') - 1]}"
    said = json.loads(file.read_text())
    if said["node_type"] == "array":
        return f"metadata of {file.parent.name}"
    return f"metadata of a {said['attributes'].get('geomsae', 'group')}"


def choose_bits(store: Path, n: int, seed: int = SEED) -> Iterator[tuple[Path, int]]:
    """Choose bits at random, every kind of file as often as any other."""
    draw = random.Random(seed)
    kinds: dict[str, list[Path]] = {}
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        kinds.setdefault(kind_of(file), []).append(file)
    for number in range(n):
        file = draw.choice(kinds[sorted(kinds)[number % len(kinds)]])
        yield file, draw.randrange(8 * file.stat().st_size)


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """Have one bit of a file be the other."""
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
    try:
        yield
    finally:
        file.write_bytes(whole)


def problems(location: Path) -> list[tuple[str, str]]:
    """The dictionary, or what several lie in, and the part of all that `verify` complains of."""
    try:
        store = geomsae.open_store(location)
    except StoreError as error:  # which the command tells, unless it can say more
        broken = damaged_root(str(location))
        return [("/", broken.problem if broken else str(error))]
    found: list[Finding] = list(verify(store))
    return [(finding.id, finding.part) for finding in found if finding.problem]


def is_named(file: Path, location: Path, named: list[tuple[str, str]]) -> bool:
    """Whether a complaint is about the dictionary, or the group, that a file belongs to."""
    path = file.relative_to(location)
    owners = {"/".join(path.parts[:end]) for end in range(len(path.parts))}
    return any((id in owners and id) or (id == "/" and len(path.parts) == 1) for id, _ in named)


def is_meaningless(file: Path, whole: bytes) -> bool:
    """Whether a file of JSON says the same as before."""
    try:
        return file.name == "zarr.json" and json.loads(file.read_bytes()) == json.loads(whole)
    except ValueError:
        return False


def judge(location: Path, file: Path, bit: int) -> str:
    """What comes of one flipped bit: ``found``, ``meaningless`` or ``missed``."""
    whole = file.read_bytes()
    with flipped(file, bit):
        if is_named(file, location, problems(location)):
            return "found"
        return "meaningless" if is_meaningless(file, whole) else "missed"


def main(n: int) -> int:
    """Flip bits, print what came of them by kind of file, and return how many were missed."""
    tally: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        location = make_store(Path(folder))
        assert not problems(location)
        for file, bit in choose_bits(location, n):
            kind = kind_of(file)
            outcome = judge(location, file, bit)
            tally.setdefault(kind, Counter())[outcome] += 1
            if outcome == "missed":
                print(f"missed: bit {bit} of {file.relative_to(location)}")
    outcomes = ("found", "meaningless", "missed")
    print(f"{'':32}" + "".join(f"{outcome:>12}" for outcome in outcomes))
    total = sum(tally.values(), Counter())
    for kind, counts in [*sorted(tally.items()), ("all", total)]:
        print(f"{kind:32}" + "".join(f"{counts[outcome]:12}" for outcome in outcomes))
    return total["missed"]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500) > 0)
