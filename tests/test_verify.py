"""What was changed in a store is found, whether a checksum sees it or only a law."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import json_of, run_geomsae

import geomsae
from geomsae.errors import SelectionError
from geomsae.store.guard import GUARD, guarded
from geomsae.store.histograms import checksum
from geomsae.verification import verify

HISTOGRAM, FEATURES = "histogram_2000_float32", "features_2000_float32"


@pytest.fixture
def counted(store):
    list(geomsae.compute_histograms(store))
    return store


def problems(store, key=None):
    return [f for f in verify(store.refresh(), None if key is None else [key]) if f.problem]


def change(store, key, name, edit, mend_checksum=False):
    """Edit an array of a dictionary; if asked to, its checksum too, and what guards that."""
    path = f"{store.location}/{key}/{name}"
    array = zarr.open_array(path, mode="r+")
    values = array[...]
    edit(values)
    array[...] = values
    if not mend_checksum:
        return
    metadata = f"{path.rpartition('/')[0]}/zarr.json"
    with open(metadata) as file:
        known = json.load(file)
    attributes = known["attributes"]
    if "count_sha256" in attributes:
        attributes["count_sha256"] = checksum(values)
    else:
        attributes["array_sha256"][name.rpartition("/")[2]] = checksum(values)
    known["attributes"] = guarded(attributes, attributes[GUARD].split("\n")[1:])
    with open(metadata, "w") as file:
        json.dump(known, file)


def move_one(count):
    full = count.argmax()
    count[full] -= 1
    count[full + 1] += 1


def test_a_whole_store_has_no_problem(counted):
    found = list(verify(counted))
    assert [f.part for f in found[:3]] == ["decoder", HISTOGRAM, FEATURES]
    assert len(found) == 12
    assert not problems(counted)


def test_a_single_count_in_the_next_bin_is_found(counted):
    key = next(iter(counted.decoders))
    change(counted, key, f"results/{HISTOGRAM}/count", move_one)
    (problem,) = problems(counted)
    assert (problem.id, problem.part) == (key, HISTOGRAM)
    assert "sha256" in problem.problem


def lose_one(count):
    count[count.argmax()] -= 1


def turn_over(count):
    count[:] = count[::-1].copy()


def squeeze(count):
    total = count.sum()
    count[:] = 0
    count[1000] = total


@pytest.mark.parametrize(
    ("edit", "law"), [(lose_one, "add up to"), (turn_over, "cosines"), (squeeze, "squared")]
)
def test_laws_find_what_a_checksum_was_made_to_hide(tmp_path, matrix, edit, law):
    from geomsae.sources import Wanted

    store = geomsae.open_store(tmp_path / "s", create=True)
    rows = np.random.default_rng(0).standard_normal((400, 30)).astype(np.float32)
    shift = 0.0 if edit is squeeze else 0.5
    list(geomsae.convert(matrix(rows + shift), store, Wanted(model="m")))
    list(geomsae.compute_histograms(store))
    change(store, "m", f"results/{HISTOGRAM}/count", edit, mend_checksum=True)
    assert any(law in problem.problem for problem in problems(store, "m"))


def test_degrees_and_pairs_are_held_against_counts_and_rows(counted):
    key = next(iter(counted.decoders))

    def one_more(degree):
        degree[0, 0] += 1

    def closer(cosine):
        cosine[0] += 1e-4

    change(counted, key, f"results/{FEATURES}/degree", one_more, mend_checksum=True)
    (problem,) = problems(counted, key)
    assert "two ends" in problem.problem
    change(
        counted,
        key,
        f"results/{FEATURES}/degree",
        lambda d: d.__setitem__((0, 0), d[0, 0] - 1),
        mend_checksum=True,
    )
    assert not problems(counted, key)
    change(counted, key, f"results/{FEATURES}/top_similar_cosine", closer, mend_checksum=True)
    (problem,) = problems(counted, key)
    assert "cosine of a pair" in problem.problem


def test_a_flipped_bit_of_a_decoder_is_found_and_named(counted, tmp_path):
    key = list(counted.decoders)[2]
    chunk = f"{counted.location}/{key}/W_dec/c/0/0"
    with open(chunk, "r+b") as file:
        file.seek(200)
        byte = file.read(1)
        file.seek(200)
        file.write(bytes([byte[0] ^ 4]))
    assert {problem.id for problem in problems(counted)} == {key}
    _, told = run_geomsae("verify", "--store", counted.location, cwd=tmp_path, status=1)
    assert key in told
    assert "1 of 12 parts" in told


def test_the_command_tells_of_every_part(counted, tmp_path):
    rows = json_of("verify", "--store", counted.location, cwd=tmp_path)
    assert [row["state"] for row in rows] == ["whole"] * 12
    assert {row["part"] for row in rows} == {"decoder", HISTOGRAM, FEATURES}


def unguard(store):
    """Make of every group what it would be if an older version had written it."""
    for file in Path(store.location).rglob("zarr.json"):
        known = json.loads(file.read_text())
        if known["attributes"].pop(GUARD, None):
            file.write_text(json.dumps(known))


def test_a_store_from_before_metadata_was_guarded_is_whole_and_says_so(counted, tmp_path):
    unguard(counted)
    found = list(verify(counted.refresh()))
    assert len(found) == 12
    assert not any(finding.problem for finding in found)
    assert all(finding.unguarded for finding in found)
    assert counted.histograms().sizes["dictionary"] == 4
    _, told = run_geomsae("verify", "--store", counted.location, cwd=tmp_path)
    assert "12 of 12 parts are from before metadata was guarded" in told
    change(counted, next(iter(counted.decoders)), f"results/{HISTOGRAM}/count", move_one)
    assert [problem.part for problem in problems(counted)] == [HISTOGRAM]


def test_one_dictionary_is_verified_without_the_others(counted):
    first, second, *_ = counted.decoders
    for key in (first, second):
        change(counted, key, f"results/{HISTOGRAM}/count", move_one)
    assert {finding.id for finding in verify(counted, [second])} == {second}
    assert len(problems(counted, second)) == 1
    with pytest.raises(SelectionError, match="nothing/like/it"):
        problems(counted, "nothing/like/it")
