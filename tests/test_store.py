import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import geomsae
from geomsae.errors import SelectionError, StoreError
from geomsae.sources import Wanted

ID = "gpt/pt/layer_5/width_64/l0_45"


def test_a_decoder_is_kept_as_published(store):
    rows = np.random.default_rng(1).standard_normal((61, 16)).astype(np.float32)
    decoder = store.decoder(ID)
    assert decoder.dims == ("feature", "d_model")
    assert decoder.chunks is not None
    assert (decoder.values == rows).all()
    np.testing.assert_allclose(decoder["norm"], np.linalg.norm(rows.astype(float), axis=1))
    assert decoder["layer"].item() == 5
    assert decoder.attrs["source_dtype"] == "float32"
    assert decoder.attrs["path"].endswith("1.npy")


def test_plain_xarray_and_plain_zarr_open_it_without_a_warning(store):
    list(geomsae.compute_histograms(store))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(store.location, engine="zarr", consolidated=False)
        group = xr.open_zarr(store.location, group=ID, consolidated=False)
        array = zarr.open_array(f"{store.location}/{ID}/W_dec", mode="r")
    assert tree[ID]["W_dec"].dtype == group["W_dec"].dtype == array.dtype == np.float32
    assert group["norm"].dims == ("feature",)
    count = tree[ID]["results/histogram_2000_float32/count"]
    assert count.dtype == np.int64
    assert int(count.sum()) == 61 * 60 // 2


def test_every_chunk_is_guarded_by_a_checksum(store):
    chunk = os.path.join(store.location, ID, "W_dec", "c", "0", "0")
    with open(chunk, "r+b") as file:
        file.seek(40)
        byte = file.read(1)
        file.seek(40)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ValueError, match="checksum"):
        store.decoder(ID).compute()


def test_the_catalogue_has_one_row_per_dictionary(store):
    table = store.catalog()
    assert table.index.name == "dictionary"
    assert table.loc[ID, ["model", "variant", "layer", "n_features", "d_model"]].tolist() == [
        "gpt",
        "pt",
        5,
        61,
        16,
    ]
    assert table["histograms"].tolist() == [0, 0, 0, 0]
    assert sorted(table["l0"]) == [40, 45, 45, 50]


def test_the_repr_answers_what_is_in_here(store):
    list(geomsae.compute_histograms(store, [ID]))
    text = repr(store)
    assert "4 dictionaries" in text
    assert "gpt pt: 3 dictionaries, layers 0 to 10" in text
    assert "1 with histograms" in text


def test_converting_again_does_nothing(store, matrix, tmp_path):
    source = str(tmp_path / "1.npy")
    wanted = Wanted(model="gpt", variant="pt", layer="5", width="64", l0="45")
    outcomes = list(geomsae.convert(source, store, wanted))
    assert [(o.id, o.added) for o in outcomes] == [(ID, False)]
    os.utime(source)
    outcomes = list(geomsae.convert(source, store, wanted))
    assert [(o.id, o.added) for o in outcomes] == [(ID, False)]


def test_ids_stay_unique(store, matrix):
    wanted = Wanted(model="gpt", variant="pt", layer="5", width="64", l0="45")
    other = matrix(np.ones((61, 16), np.float32), "other.npy")
    (outcome,) = geomsae.convert(other, store, wanted)
    assert outcome.id == f"{ID}/other"
    assert outcome.added
    (again,) = geomsae.convert(other, store, wanted)
    assert (again.id, again.added) == (outcome.id, False)


def test_a_file_that_changed_is_not_taken_for_the_old_one(store, matrix):
    wanted = Wanted(model="gpt", variant="pt", layer="5", width="64", l0="45")
    changed = matrix(np.ones((61, 16), np.float32), "1.npy")
    with pytest.raises(SelectionError, match="--tag"):
        list(geomsae.convert(changed, store, wanted))


def test_dictionaries_of_two_shapes_do_not_share_a_branch(store, matrix):
    with pytest.raises(SelectionError, match="another shape"):
        list(geomsae.convert(matrix(np.ones((5, 4))), store, Wanted(model="gpt", variant="pt")))


def test_a_dictionary_may_lie_above_another_of_its_shape(store, matrix, tmp_path):
    rows = np.random.default_rng(9).standard_normal((7, 5))
    list(geomsae.convert(matrix(rows, "a.npy"), store, Wanted(model="m", tag="affine")))
    list(geomsae.convert(matrix(-rows, "b.npy"), store, Wanted(model="m")))
    assert {"m", "m/affine"} <= set(store.decoders)
    assert (store.decoder("m").values == -rows.astype(np.float32)).all()
    xr.open_datatree(store.location, engine="zarr", consolidated=False)


def test_an_unknown_id_names_the_nearest(store):
    with pytest.raises(SelectionError, match="layer_5/width_64"):
        store.decoder("gpt/pt/layer_5")


def test_a_folder_with_nothing_in_it_is_an_empty_store(tmp_path):
    assert geomsae.open_store(tmp_path).catalog().empty
    empty = geomsae.open_store(tmp_path / "new", create=True)
    assert empty.histograms().sizes == {"dictionary": 0, "cosine": 2000}
    assert not (tmp_path / "new").exists()


def test_the_folder_in_the_project_is_an_empty_store():
    project = os.path.dirname(os.path.dirname(__file__))
    with open(os.path.join(project, "store", "zarr.json")) as file:
        assert json.load(file)["attributes"] == {"geomsae": "store", "format": 1}


def test_a_missing_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="convert"):
        geomsae.open_store(tmp_path / "nowhere")


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        geomsae.open_store(tmp_path / "file")
    with pytest.raises(StoreError, match="something else"):
        geomsae.open_store(tmp_path)
    zarr.open_group(tmp_path / "other", mode="w", attributes={"a": 1})
    with pytest.raises(StoreError, match="not a store of geomsae"):
        geomsae.open_store(tmp_path / "other")


def test_a_store_of_a_newer_version_is_refused(store):
    path = os.path.join(store.location, "zarr.json")
    with open(path) as file:
        metadata = json.load(file)
    metadata["attributes"]["format"] = 99
    with open(path, "w") as file:
        json.dump(metadata, file)
    with pytest.raises(StoreError, match="upgrade"):
        geomsae.open_store(store.location)


def test_a_count_that_was_changed_is_not_shown(store):
    list(geomsae.compute_histograms(store))
    path = f"{store.location}/{ID}/results/histogram_2000_float32/count"
    array = zarr.open_array(path, mode="r+")
    count = array[:]
    full = count.argmax()
    count[full] -= 1
    count[full + 1] += 1
    array[:] = count
    with pytest.raises(StoreError, match=ID):
        store.histograms()


def test_it_is_read_through_fsspec(store):
    import fsspec

    list(geomsae.compute_histograms(store))
    memory = fsspec.filesystem("memory")
    memory.put(store.location, "/copied", recursive=True)
    copied = geomsae.open_store("memory://copied")
    assert copied.catalog().index.tolist() == store.catalog().index.tolist()
    xr.testing.assert_identical(copied.histograms(), store.histograms())
    assert (copied.decoder(ID).values == store.decoder(ID).values).all()


def test_a_store_that_vanished_is_not_taken_for_an_empty_one(store, tmp_path):
    again = geomsae.open_store(store.location)
    Path(store.location).rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="is gone"):
        list(again.decoders)


def test_a_store_that_vanished_is_not_made_anew(store, tmp_path):
    hist = geomsae.cosine_histogram(store.decoder(next(iter(store.decoders)))).compute()
    gone = Path(store.location).rename(tmp_path / "gone")
    with pytest.raises(StoreError, match=r"is gone: .* put the store back"):
        store.add_histogram("m", hist, {"precision": "float32", "device": "cpu", "sha256": ""})
    assert not Path(store.location).exists()
    gone.rename(store.location)
    assert list(geomsae.compute_histograms(store)) == list(store.decoders)
