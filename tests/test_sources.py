"""Files and folders as sources: which matrix, which way round, under which labels, or refused."""

import numpy as np
import pytest
from files import MATRIX, opened, rows, safetensors, same_bits, saved

import geomsae
from geomsae.errors import DecoderError, SelectionError, SourceError
from geomsae.sources import Wanted, find


@pytest.mark.parametrize(
    ("beside", "transposed"),
    [
        ({"b_enc": 12}, False),
        ({"b_enc": 5}, True),
        ({"b_dec": 5}, False),
        ({"b_dec": 12}, True),
        ({"encoder.bias": 5, "b_dec": 12}, True),
        ({"threshold": 12, "b_enc": 12, "b_dec": 5}, False),
        ({"b_dec": 5, "b_enc": 99}, False),
    ],
)
def test_a_bias_tells_which_way_round_a_matrix_is(tmp_path, beside, transposed):
    array = np.random.default_rng(0).standard_normal((12, 5)).astype("<f4")
    path = tmp_path / "w.npz"
    np.savez(path, W_dec=array, **{key: np.zeros(n, "<f4") for key, n in beside.items()})
    decoder = opened(path)
    assert decoder.notes == ()
    assert decoder.provenance["transposed"] == transposed
    assert same_bits(rows(decoder), array.T.copy() if transposed else array)


@pytest.mark.parametrize(
    ("label", "shape"), [("2k", (2, 2048)), ("2k", (2048, 2)), ("2000", (3, 2000))]
)
def test_the_published_width_tells_which_way_round_a_matrix_is(tmp_path, label, shape):
    path = tmp_path / "w.npy"
    np.save(path, np.ones(shape, "<f4"))
    decoder = opened(path, width=label)
    assert decoder.shape == (max(shape), min(shape))
    assert decoder.notes == ()


def test_facts_that_contradict_each_other_are_refused_until_the_user_decides(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, W_dec=MATRIX, b_enc=np.zeros(4, "<f4"), b_dec=np.zeros(4, "<f4"))
    with pytest.raises(SourceError, match=r"contradicts itself .*b_enc.*b_dec.*--no-transpose"):
        opened(path)
    assert opened(path, transpose=False).shape == (4, 3)
    assert opened(path, transpose=True).shape == (3, 4)


def test_a_bias_that_contradicts_the_width_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, W_dec=np.ones((2, 2048), "<f4"), b_enc=np.zeros(2, "<f4"))
    with pytest.raises(SourceError, match="contradicts itself"):
        opened(path, width="2k")


@pytest.mark.parametrize("shape", [(6, 6), (6, 4)])
def test_what_nothing_decides_is_taken_as_it_lies_and_said(tmp_path, shape):
    array = np.random.default_rng(0).standard_normal(shape).astype("<f4")
    path = tmp_path / "w.npz"
    square = shape[0] == shape[1]
    np.savez(path, W_dec=array, **({"b_enc": array[0], "b_dec": array[0]} if square else {}))
    decoder = opened(path)
    (note,) = decoder.notes
    assert "--transpose" in note
    assert str(path) in note
    assert same_bits(rows(decoder), array)
    assert opened(path, transpose=False).notes == ()


def test_a_square_matrix_is_turned_only_where_that_is_said(tmp_path):
    array = np.random.default_rng(0).standard_normal((6, 6)).astype("<f4")
    path = tmp_path / "w.npy"
    np.save(path, array)
    assert same_bits(rows(opened(path, transpose=True)), array.T.copy())


@pytest.mark.parametrize("name", ["w.bin", "w.txt", "w"])
def test_a_file_of_another_format_is_refused_with_the_formats_there_are(tmp_path, name):
    (tmp_path / name).write_bytes(saved(np.save, MATRIX))
    with pytest.raises(SourceError, match=r"\.safetensors, \.npz, \.npy"):
        find(str(tmp_path / name), Wanted(model="m"))
    with pytest.raises(SourceError, match="has no file of the formats"):
        find(str(tmp_path), Wanted(model="m"))


def test_a_place_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=f"no file or folder {tmp_path}/none.npy"):
        find(f"{tmp_path}/none.npy", Wanted(model="m"))


def test_a_tensor_that_is_not_there_is_named_beside_those_that_are(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, encoder=MATRIX, decoder=MATRIX)
    with pytest.raises(SourceError, match=r"no tensor 'W'; its matrices: encoder, decoder"):
        opened(path, tensor="W")


def test_a_named_tensor_must_be_a_matrix_of_floats(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, W_dec=MATRIX, bias=MATRIX[0], steps=MATRIX.astype(int), loss=np.float32(1))
    for key in ("bias", "steps", "loss"):
        with pytest.raises(SourceError, match=rf"tensor '{key}' of .*w\.npz is .*W_dec"):
            opened(path, tensor=key)


def test_several_matrices_want_a_tensor_to_be_named(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(first=MATRIX, second=MATRIX + 1))
    with pytest.raises(SourceError, match=r"2 matrices: say which with --tensor: first, second"):
        opened(path)
    assert same_bits(rows(opened(path, tensor="second")), MATRIX + 1)


@pytest.mark.parametrize("key", ["W_dec", "w_dec", "decoder.weight", "W_D"])
def test_a_usual_key_is_taken_among_several_matrices(tmp_path, key):
    path = tmp_path / "w.npz"
    np.savez(path, **{"W_enc": MATRIX.T, key: MATRIX})
    assert opened(path).provenance["tensor"] == key


def test_two_usual_keys_want_one_to_be_named(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, **{"W_dec": MATRIX, "decoder.weight": MATRIX.T})
    with pytest.raises(SourceError, match="--tensor"):
        opened(path)


def test_a_bare_file_needs_the_name_of_its_model(tmp_path):
    np.save(tmp_path / "w.npy", MATRIX)
    with pytest.raises(SelectionError, match="--model"):
        find(str(tmp_path / "w.npy"))


def test_a_file_takes_the_labels_that_it_is_given(tmp_path):
    np.save(tmp_path / "w.npy", MATRIX)
    words = {
        "model": "gpt2",
        "variant": "base",
        "site": "mlp",
        "layer": "3",
        "l0": "41",
        "tag": "x",
    }
    (offer,) = find(str(tmp_path / "w.npy"), Wanted(**words, width="4"))
    assert offer.labels.id == "gpt2/base/mlp/layer_3/width_4/l0_41/x"
    assert offer.labels.l0 == 41
    assert offer.nbytes == (tmp_path / "w.npy").stat().st_size


def test_every_file_of_a_folder_is_offered_under_its_own_tag(tmp_path):
    place = tmp_path / "runs"
    (place / "seed_1").mkdir(parents=True)
    np.save(place / "seed_0.npy", MATRIX)
    np.savez(place / "seed_1" / "sae.npz", W_dec=MATRIX + 1)
    (place / "seed_1" / "cfg.json").write_text("{}")
    (place / "seed 2.safetensors").write_bytes(safetensors(W_dec=MATRIX + 2))
    offers = {offer.labels.id: offer for offer in find(str(place), Wanted(model="m"))}
    assert set(offers) == {"m/seed_0", "m/seed_1_sae", "m/seed_2"}
    for id, plus in (("m/seed_0", 0), ("m/seed_1_sae", 1), ("m/seed_2", 2)):
        assert same_bits(rows(offers[id].open()), MATRIX + plus)


def test_a_folder_of_one_file_needs_no_tag(tmp_path):
    np.save(tmp_path / "w.npy", MATRIX)
    (offer,) = find(str(tmp_path), Wanted(model="m"))
    assert offer.labels.id == "m"


def test_a_folder_of_a_family_is_read_by_its_names(tmp_path):
    path = tmp_path / "gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_71/params.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, W_dec=MATRIX, W_enc=MATRIX.T, b_enc=MATRIX[:, 0], b_dec=MATRIX[0])
    np.savez(path.parent / "other.npz", unrelated=MATRIX)
    (offer,) = find(str(tmp_path / "gemma-scope-2b-pt-mlp"))
    assert offer.labels.id == "gemma-2-2b/pt/mlp/layer_3/width_16k/l0_71"
    assert same_bits(rows(offer.open()), MATRIX)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_no_numbers_are_counted_and_nothing_is_stored(tmp_path, bad):
    array = np.ones((9000, 1024), np.float16)
    array[[5, 8191, 8999], [0, 1023, 7]] = bad
    np.save(tmp_path / "w.npy", array)
    store = geomsae.open_store(tmp_path / "store", create=True)
    with pytest.raises(DecoderError, match=r"3 of 9,000 rows .*first: row 5\b"):
        list(geomsae.convert(str(tmp_path / "w.npy"), store, Wanted(model="m")))
    left = [p for place in ("store", "store-work") for p in (tmp_path / place).rglob("*")]
    assert left == []
    assert geomsae.open_store(tmp_path / "store", create=True).catalog().empty


def test_a_bad_decoder_leaves_those_before_it_in_the_store(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", MATRIX)
    np.save(tmp_path / "in" / "b.npy", MATRIX * np.float32("nan"))
    store = geomsae.open_store(tmp_path / "store", create=True)
    outcomes = geomsae.convert(str(tmp_path / "in"), store, Wanted(model="m"))
    assert next(outcomes).id == "m/a"
    with pytest.raises(DecoderError, match=r"m/b has 4 of 4 rows"):
        next(outcomes)
    assert list(geomsae.open_store(tmp_path / "store").decoders) == ["m/a"]
    assert same_bits(store.decoder("m/a").values, MATRIX)


def test_float64_beyond_the_range_of_float32_is_refused(tmp_path):
    np.save(tmp_path / "w.npy", np.array([[1.0, 2.0], [1e39, 0.0], [1e-300, 0.0]]))
    store = geomsae.open_store(tmp_path / "store", create=True)
    with pytest.raises(DecoderError, match=r"1 of 3 rows .*first: row 1\b"):
        list(geomsae.convert(str(tmp_path / "w.npy"), store, Wanted(model="m")))
