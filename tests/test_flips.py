"""Whatever changes in a store by itself is found, and named by its dictionary."""

import shutil

import pytest
from flips import (
    choose_bits,
    flipped,
    is_meaningless,
    is_named,
    judge,
    kind_of,
    make_store,
    problems,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geomsae.store.guard import GUARD

BELOW = "gpt/it/layer_10/width_64/l0_82/affine"
ABOVE = "gpt/it/layer_10/width_64/l0_82"
ALONE = "gpt/pt/layer_0/width_64/l0_40"


@pytest.fixture(scope="module")
def location(tmp_path_factory):
    """A counted store, left as it was by every test."""
    made = make_store(tmp_path_factory.mktemp("flips"))
    assert not problems(made)
    return made


def test_a_bit_of_any_kind_of_file_is_found_or_means_nothing(location):
    bits = list(choose_bits(location, 78))
    assert len({kind_of(file) for file, _ in bits}) == 39
    missed = [(file, bit) for file, bit in bits if judge(location, file, bit) == "missed"]
    assert not missed


WORDS = (
    b"complete",
    b'"status"',
    b'"decoder"',
    b"geomsae",
    GUARD.encode(),
    b"  attributes",
    b"  W_dec",
    b"node_type",
    b'"group"',
    b"zarr_format",
    b" 3",
    b"width",
    b'"pt"',
    b'sha256": "',
    b"n_features",
)

pytestmark = pytest.mark.long


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("bit", [0, 4])
def test_no_word_of_what_a_decoder_says_can_change(location, word, bit):
    metadata = location / ALONE / "zarr.json"
    place = metadata.read_bytes().index(word) + len(word) // 2
    with flipped(metadata, 8 * place + bit):
        assert ALONE in [id for id, _ in problems(location)]


def files_of(location):
    return sorted(path for path in location.rglob("*") if path.is_file())


@settings(max_examples=20)
@given(number=st.integers(0, 10**6), share=st.floats(0, 0.999))
def test_a_file_cut_short_is_found(location, number, share):
    files = files_of(location)
    file = files[number % len(files)]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    try:
        assert is_named(file, location, problems(location))
    finally:
        file.write_bytes(whole)


@settings(max_examples=20)
@given(one=st.integers(0, 10**6), other=st.integers(0, 10**6))
def test_two_files_in_each_others_places_are_found(location, one, other):
    files = files_of(location / "gpt")  # without the store's own, before which nothing is looked at
    first, second = files[one % len(files)], files[other % len(files)]
    kept = first.read_bytes(), second.read_bytes()
    assume(kept[0] != kept[1])
    first.write_bytes(kept[1])
    second.write_bytes(kept[0])
    try:
        named = problems(location)
        assert is_named(first, location, named) or is_meaningless(first, kept[0])
        assert is_named(second, location, named) or is_meaningless(second, kept[1])
    finally:
        first.write_bytes(kept[0])
        second.write_bytes(kept[1])


@settings(max_examples=30)
@given(number=st.integers(0, 10**6), name=st.sampled_from(["0", "9", "c", "W_dec", "norm", "x"]))
def test_a_file_or_folder_of_another_name_is_found(location, number, name):
    paths = sorted(location.rglob("*"))
    path = paths[number % len(paths)]
    renamed = path.with_name(name)
    assume(not renamed.exists())
    path.rename(renamed)
    try:
        named = problems(location)
        places = [str(p.relative_to(location)) for p in (path, renamed)]
        below = [id for id, _ in named if any(f"{id}/".startswith(f"{p}/") for p in places)]
        assert below or is_named(path, location, named)
    finally:
        renamed.rename(path)


def test_chunks_of_two_dictionaries_exchanged_are_found(location):
    """Their checksums agree with them, and their metadata is the same."""
    first, second = (location / id / "W_dec/c/0/0" for id in (ALONE, ABOVE))
    kept = first.read_bytes(), second.read_bytes()
    first.write_bytes(kept[1])
    second.write_bytes(kept[0])
    try:
        assert {(ALONE, "decoder"), (ABOVE, "decoder")} <= set(problems(location))
    finally:
        first.write_bytes(kept[0])
        second.write_bytes(kept[1])


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("stray", ("/", "stray")),
        ("gpt/stray", ("gpt", "stray")),
        (f"{ALONE}/W_dec/c/0/1", (ALONE, "W_dec/c/0/1")),
        (f"{ALONE}/more/zarr.json", (ALONE, "more")),
        (f"{ALONE}/results/histogram_9_float32/zarr.json", (ALONE, "histogram_9_float32")),
        (f"{ALONE}/results/other/zarr.json", (ALONE, "results/other")),
    ],
)
def test_what_does_not_belong_there_is_found(location, extra, named):
    file = location / extra
    made = file if file.parent.exists() else file.parent
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    try:
        assert problems(location) == [named]
    finally:
        shutil.rmtree(made) if made.is_dir() else made.unlink()


def test_what_other_programs_leave_behind_is_no_damage(location):
    for name in (".DS_Store", f"{ALONE}/.DS_Store", f"{ALONE}/W_dec/c/.nfs01"):
        (location / name).touch()
    try:
        assert not problems(location)
    finally:
        for file in location.rglob(".*"):
            file.unlink()
