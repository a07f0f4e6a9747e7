"""What is damaged is set aside and made again, and nothing else; nothing is ever deleted."""

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import json_of, run_geomsae
from flips import flipped, make_store, problems

import geomsae
from geomsae.errors import DamagedError
from geomsae.results import missing_histograms, usual_ask
from geomsae.sources import Wanted
from geomsae.store.repair import REWRITTEN, SET_ASIDE, Repair
from geomsae.store.survey import Survey

ALONE = "gpt/pt/layer_0/width_64/l0_40"
ABOVE = "gpt/it/layer_10/width_64/l0_82"
BELOW = f"{ABOVE}/affine"
HISTOGRAM, FEATURES = "results/histogram_2000_float32", "results/features_2000_float32"

SOURCES = {
    ALONE: ("0.npy", Wanted(model="gpt", variant="pt", layer="0", width="64", l0="40")),
    ABOVE: ("1.npy", Wanted(model="gpt", variant="it", layer="10", width="64", l0="82")),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A counted store beside the files that its decoders come from."""
    return make_store(tmp_path_factory.mktemp("repair"))


@pytest.fixture
def location(made, tmp_path):
    """A copy of it to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "store"))


def flip(file, bit=85):
    """Change a bit of a file for good."""
    whole = bytearray(file.read_bytes())
    whole[bit // 8] ^= 1 << bit % 8
    file.write_bytes(whole)


def tree(location):
    with xr.open_datatree(location, engine="zarr", consolidated=False) as opened:
        return opened.load()


def make_again(made, location):
    """Convert and count, as a user would; return the ids that were brought back and counted."""
    store = geomsae.open_store(location, create=True)
    lost = [id for id in SOURCES if id not in store.decoders]
    for id in lost:
        file, wanted = SOURCES[id]
        list(geomsae.convert(str(made.parent / file), store, wanted))
    uncounted = missing_histograms(store, None, usual_ask(pairs=20))
    list(geomsae.compute_histograms(store, pairs=20))
    return lost, uncounted


DAMAGE = {
    "rows": (f"{ALONE}/W_dec/c/0/0", [ALONE], [ALONE], SET_ASIDE),
    "norms": (f"{ALONE}/norm/c/0", [ALONE], [ALONE], SET_ASIDE),
    "an array's metadata": (f"{ALONE}/W_dec/zarr.json", [ALONE], [ALONE], SET_ASIDE),
    "a decoder's metadata": (f"{ALONE}/zarr.json", [ALONE], [ALONE], SET_ASIDE),
    "one above another": (f"{ABOVE}/zarr.json", [ABOVE], [ABOVE], SET_ASIDE),
    "counts": (f"{ALONE}/{HISTOGRAM}/count/c/0", [], [ALONE], SET_ASIDE),
    "edges": (f"{BELOW}/{HISTOGRAM}/cosine_left/zarr.json", [], [BELOW], SET_ASIDE),
    "a histogram's metadata": (f"{ABOVE}/{HISTOGRAM}/zarr.json", [], [ABOVE], SET_ASIDE),
    "degrees": (f"{ABOVE}/{FEATURES}/degree/c/0/0", [], [ABOVE], SET_ASIDE),
    "features' metadata": (f"{ABOVE}/{FEATURES}/zarr.json", [], [ABOVE], SET_ASIDE),
    "results' metadata": (f"{ALONE}/results/zarr.json", [], [], REWRITTEN),
    "a group between": ("gpt/it/zarr.json", [], [], REWRITTEN),
    "the store's own": ("zarr.json", [], [], REWRITTEN),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_made_again_and_nothing_else(made, location, what):
    file, lost, uncounted, become = DAMAGE[what]
    before = tree(location)
    flip(location / file)
    damaged = (location / file).read_bytes()
    rows = json_of("verify", "--repair", "--store", location, cwd=location.parent)
    assert [row["state"] for row in rows if row["problem"]] == [become]
    (kept,) = (location.parent / "store-set-aside").iterdir()
    assert (kept / file).read_bytes() == damaged
    assert {path.name for path in location.parent.iterdir()} == {"store", "store-set-aside"}
    assert not problems(location)
    assert make_again(made, location) == (lost, uncounted)
    assert not problems(location)
    assert tree(location).identical(before)


def test_a_decoder_that_vanished_from_the_catalogue_is_set_aside_with_its_results(made, location):
    metadata = location / ALONE / "zarr.json"
    place = metadata.read_bytes().index(b"complete")
    flip(metadata, 8 * place + 1)
    with pytest.raises(DamagedError, match="does not say that it is a finished decoder"):
        list(geomsae.open_store(location).decoders)
    table, told = run_geomsae("verify", "--repair", "--store", location, cwd=location.parent)
    assert table.count("set aside") == 3
    assert f"bring {ALONE} back with 'geomsae convert SOURCE --store {location}'" in told
    assert str(made.parent / "0.npy") in told
    assert "geomsae histogram" in told
    assert not (location / ALONE).exists()
    assert make_again(made, location) == ([ALONE], [ALONE])


def test_what_is_in_the_way_is_moved_out_of_it(location):
    (location / ALONE / "results" / "notes").mkdir()
    (location / ALONE / "results" / "notes" / "a.txt").write_text("mine")
    (row,) = (
        row
        for row in json_of("verify", "--repair", "--store", location, cwd=location.parent)
        if row["problem"]
    )
    assert (row["id"], row["part"], row["state"]) == (ALONE, "results/notes", SET_ASIDE)
    (kept,) = (location.parent / "store-set-aside").glob(f"*/{ALONE}/results/notes/a.txt")
    assert kept.read_text() == "mine"


def test_a_second_repair_leaves_what_the_first_set_aside(location):
    for count in (1, 2):
        flip(location / f"{ALONE}/{HISTOGRAM}/count/c/0")
        run_geomsae("verify", "--repair", "--store", location, cwd=location.parent)
        assert len(list((location.parent / "store-set-aside").iterdir())) == count
        list(geomsae.compute_histograms(geomsae.open_store(location), pairs=20))
    _, told = run_geomsae("verify", "--repair", "--store", location, cwd=location.parent)
    assert "nothing to repair" in told


def test_without_repair_the_sentence_names_the_damaged_and_the_way_out(location):
    for file, named in (("zarr.json", str(location)), (f"{ALONE}/zarr.json", ALONE)):
        with flipped(location / file, 85):
            _, told = run_geomsae("verify", "--store", location, cwd=location.parent, status=1)
        assert named in told
        assert f"geomsae verify --repair --store {location}" in told
    assert not (location.parent / "store-set-aside").exists()


@pytest.mark.parametrize("attributes", [{}, {"geomsae": "store", "format": 99}])
def test_a_folder_that_is_no_store_of_ours_is_left_alone(tmp_path, attributes):
    zarr.create_group(tmp_path / "other", attributes=attributes)
    zarr.save_array(tmp_path / "other" / "w", np.ones(3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run_geomsae("verify", "--repair", "--store", "other", cwd=tmp_path, status=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_store_elsewhere_is_repaired_as_well(location):
    memory = fsspec.filesystem("memory")
    memory.put(str(location), "/repair/store", recursive=True)
    try:
        chunk = f"/repair/store/{ALONE}/zarr.json"
        memory.pipe_file(chunk, memory.cat_file(chunk).replace(b"decoder", b"decodes"))
        bad = [place for place in Survey(memory, "/repair/store").places() if place.problem]
        assert [place.id for place in bad] == [ALONE]
        assert Repair(memory, "/repair/store", "memory://repair/store").mend(bad[0]) == SET_ASIDE
        assert not [place for place in Survey(memory, "/repair/store").places() if place.problem]
        (kept,) = memory.glob(f"/repair/store-set-aside/*/{ALONE}/zarr.json")
        assert json.loads(memory.cat_file(kept))["attributes"]["geomsae"] == "decodes"
    finally:
        memory.rm("/repair", recursive=True)
