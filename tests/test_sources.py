"""Decoders in files, folders and generators: read exactly, the right way round, or refused."""

import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geomsae
from geomsae.errors import DecoderError, SelectionError, SourceError
from geomsae.sources import Decoder, RandomDecoder, Wanted, find

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)


def safetensors(**tensors: np.ndarray | tuple[np.ndarray, str]) -> bytes:
    """A safetensors file written by hand; (bits, name) states the element type."""
    header, body = {}, b""
    for key, tensor in tensors.items():
        array, name = tensor if isinstance(tensor, tuple) else (tensor, "")
        name = name or next(k for k, v in DTYPES.items() if np.dtype(v) == array.dtype)
        data = array.tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[key] = {"dtype": name, "shape": array.shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    """The bytes that one of NumPy's savers writes."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def npy(shape: str, descr: str = "<f4", body: bytes = MATRIX.tobytes()) -> bytes:
    """An npy file whose header says what one likes."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def zipped(**members: bytes) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def finite(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """Every finite bit pattern may come, subnormals and negative zero among them."""
    values = np.frombuffer(rng.bytes(math.prod(shape) * np.dtype(dtype).itemsize), dtype)
    return np.where(np.isfinite(values), values, 1).reshape(shape).astype(dtype)


def opened(path: Path, **words: object) -> Decoder:
    """The only decoder of a file."""
    (offer,) = find(str(path), Wanted(**{"model": "m", **words}))
    return offer.open()


def rows(decoder: Decoder, block: int = 7) -> np.ndarray:
    """All rows of a decoder, read `block` at a time."""
    blocks = list(decoder.blocks(block))
    assert [len(b) for b in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) <= block
    assert {b.dtype for b in blocks} == {np.dtype(np.float32)}
    return np.concatenate(blocks)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


WRITERS = {
    "float16.safetensors": ("<f2", lambda a: safetensors(W_dec=a)),
    "float32.safetensors": ("<f4", lambda a: safetensors(b=a[0], W_dec=a, a=a[:1, 0])),
    "float64.safetensors": ("<f8", lambda a: safetensors(W_dec=a)),
    "stored.npz": ("<f4", lambda a: saved(np.savez, b=a[0], W_dec=a)),
    "deflated.npz": ("<f4", lambda a: saved(np.savez_compressed, b=a[0], W_dec=a)),
    "half.npz": ("<f2", lambda a: saved(np.savez, W_dec=a)),
    "fortran.npz": ("<f4", lambda a: saved(np.savez_compressed, W_dec=np.asfortranarray(a))),
    "c.npy": ("<f4", lambda a: saved(np.save, a)),
    "fortran.npy": ("<f4", lambda a: saved(np.save, np.asfortranarray(a))),
    "big.npy": (">f4", lambda a: saved(np.save, a)),
    "big_fortran.npy": (">f8", lambda a: saved(np.save, np.asfortranarray(a))),
    "double.npy": ("<f8", lambda a: saved(np.save, a)),
}


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25)
@given(shape=st.tuples(sizes, sizes), block=st.integers(1, 50), turned=st.booleans(), seed=seeds)
def test_blocks_of_any_size_are_the_array_bit_for_bit(folder, name, shape, block, turned, seed):
    dtype, write = WRITERS[name]
    array = finite(np.random.default_rng(seed), shape, dtype)
    if np.dtype(dtype).itemsize == 8:
        array = np.where(np.abs(array) < np.finfo(np.float32).max, array, 1 / 3).astype(dtype)
    path = folder / name
    path.write_bytes(write(array))
    decoder = opened(path, transpose=turned)
    expected = (array.T if turned else array).astype("<f4")
    assert decoder.shape == expected.shape
    assert same_bits(rows(decoder, block), expected)


@settings(max_examples=25)
@given(shape=st.tuples(sizes, sizes), block=st.integers(1, 50), turned=st.booleans(), seed=seeds)
def test_bfloat16_is_the_upper_half_of_float32(folder, shape, block, turned, seed):
    array = finite(np.random.default_rng(seed), shape, "<f4")
    upper = (array.view("<u4") >> 16).astype("<u2")
    expected = (upper.astype("<u4") << 16).view("<f4")
    path = folder / "bfloat16.safetensors"
    path.write_bytes(safetensors(W_dec=(upper, "BF16")))
    decoder = opened(path, transpose=turned)
    assert decoder.dtype == "bfloat16"
    assert same_bits(rows(decoder, block), expected.T if turned else expected)


def test_known_bfloat16_bits_have_their_values(tmp_path):
    bits = np.array([[0x3F80, 0xC049, 0x0001], [0x8000, 0x7F7F, 0x3EAB]], "<u2")
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(W_dec=(bits, "BF16")))
    values = rows(opened(path))
    assert values[0].tolist() == [1.0, -3.140625, 2.0**-133]
    assert values[1].tolist() == [0.0, (2 - 2.0**-7) * 2.0**127, 0.333984375]
    assert np.signbit(values[1, 0])


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_of_a_zip_are_read(tmp_path, compression):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("W_dec.npy", saved(np.save, MATRIX))
    assert same_bits(rows(opened(path)), MATRIX)


def test_an_archive_behind_other_bytes_is_read_from_the_right_place(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"#!/bin/sh\n" * 9 + saved(np.savez, b=MATRIX[0], W_dec=MATRIX))
    assert same_bits(rows(opened(path)), MATRIX)


def test_an_npy_of_version_2_is_read(tmp_path):
    path = tmp_path / "w.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, MATRIX, version=(2, 0))
    assert same_bits(rows(opened(path)), MATRIX)


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


BROKEN = {
    "empty.npy": b"",
    "empty.npz": b"",
    "empty.safetensors": b"",
    "text.npy": b"not an array at all",
    "text.npz": b"not an archive at all",
    "text.safetensors": b"not a tensor at all",
    "npy_as.npz": saved(np.save, MATRIX),
    "npz_as.npy": saved(np.savez, W_dec=MATRIX),
    "pickle.npy": pickle.dumps(MATRIX),
    "pickle.npz": pickle.dumps({"W_dec": MATRIX}),
    "pickle.safetensors": pickle.dumps({"W_dec": MATRIX}),
    "objects.npy": saved(np.save, np.array([[{}, None]], object)),
    "objects.npz": saved(np.savez, W_dec=np.array([[{}, None]], object)),
    "integers.npy": saved(np.save, MATRIX.astype(np.int32)),
    "integers.safetensors": safetensors(W_dec=MATRIX.astype(np.int64)),
    "eighths.safetensors": safetensors(W_dec=(MATRIX.astype(np.uint8), "F8_E4M3")),
    "complex.npy": saved(np.save, MATRIX.astype(np.complex64)),
    "booleans.npy": saved(np.save, MATRIX > 3),
    "dates.npy": saved(np.save, np.zeros((2, 2), "M8[s]")),
    "number.npy": saved(np.save, np.float32(1)),
    "vector.npy": saved(np.save, MATRIX[0]),
    "vector.npz": saved(np.savez, W_dec=MATRIX[0]),
    "vector.safetensors": safetensors(W_dec=MATRIX[0]),
    "cube.npy": saved(np.save, MATRIX[None]),
    "no_rows.npy": saved(np.save, MATRIX[:0]),
    "no_rows.safetensors": safetensors(W_dec=MATRIX[:0]),
    "nothing.npz": zipped(),
    "nothing.safetensors": safetensors(),
    "member.npz": zipped(W_dec=b"not an array at all"),
    "terabytes.npy": npy("(1000000000, 4608)"),
    "terabytes.npz": zipped(W_dec=npy("(1000000000, 4608)")),
    "endless.npy": npy(f"({10**30}, {10**30})"),
    "endless_header.safetensors": struct.pack("<Q", 2**62) + b"{}",
    "terabytes.safetensors": safetensors(W_dec=MATRIX).replace(b"[4, 3]", b"[9999999999999, 3]"),
    "too_long.safetensors": safetensors(W_dec=MATRIX) + b"more",
    "unknown_type.npy": npy("(4, 3)", "zzz"),
    "version_9.npy": b"\x93NUMPY\x09\x00" + saved(np.save, MATRIX)[8:],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_without_a_decoder_is_refused_in_one_line_that_names_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(SourceError) as refusal:
        opened(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


WHOLE = {
    "w.npy": saved(np.save, MATRIX),
    "stored.npz": saved(np.savez, W_dec=MATRIX),
    "deflated.npz": saved(np.savez_compressed, W_dec=MATRIX),
    "w.safetensors": safetensors(W_dec=MATRIX),
}


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=40)
@given(left=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_anywhere_is_refused(folder, name, left):
    path = folder / f"cut_{name}"
    path.write_bytes(WHOLE[name][: int(left * len(WHOLE[name]))])
    with pytest.raises(SourceError) as refusal:
        opened(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_cut_after_it_was_opened_is_refused(tmp_path):
    path = tmp_path / "w.npy"
    path.write_bytes(WHOLE["w.npy"])
    decoder = opened(path)
    path.write_bytes(WHOLE["w.npy"][:-5])
    with pytest.raises(SourceError, match="cut short"):
        rows(decoder)


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "went_off",)

    np.savez(tmp_path / "w.npz", W_dec=np.array([[Bomb()]], object))
    np.save(tmp_path / "w.npy", np.array([[Bomb()]], object))
    for name in ("w.npz", "w.npy"):
        with pytest.raises(SourceError):
            opened(tmp_path / name)
    assert not (tmp_path / "went_off").exists()


@pytest.mark.parametrize("name", ["w.bin", "w.txt", "w"])
def test_a_file_of_another_format_is_refused_with_the_formats_there_are(tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE["w.npy"])
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


@settings(max_examples=40)
@given(
    n=st.integers(1, 3000),
    d=st.integers(1, 24),
    seed=st.integers(0, 2**63),
    block=st.integers(1, 4000),
)
def test_random_directions_do_not_depend_on_how_they_are_read(n, d, seed, block):
    decoder = RandomDecoder(n, d, seed)
    whole = decoder.read(0, n)
    assert same_bits(rows(decoder, block), whole)
    start = block % n
    assert same_bits(decoder.read(start, n), whole[start:])
    assert same_bits(RandomDecoder(n + 1500, d, seed).read(0, n), whole)


def test_random_directions_are_standard_normal():
    n, d = 4000, 64
    values = RandomDecoder(n, d, seed=5).read(0, n).astype(np.float64)
    squares = (values**2).sum(axis=1)
    assert abs(squares.mean() - d) < 5 * math.sqrt(2 * d / n)
    assert 0.9 < squares.var() / (2 * d) < 1.1
    assert abs(values.mean()) < 5 / math.sqrt(n * d)
    unit = values / np.sqrt(squares)[:, None]
    cosines = (unit @ unit.T)[np.tril_indices(n, -1)]
    assert abs(cosines.mean()) < 5 / math.sqrt(len(cosines) * d)
    assert 0.99 < cosines.var() * d < 1.01


def test_another_seed_or_row_or_width_gives_other_directions():
    drawn = [RandomDecoder(2048, 8, seed).read(0, 2048) for seed in (0, 1)]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 2 * 2048
    assert not np.isclose(RandomDecoder(1, 7).read(0, 1), drawn[0][:1, :7]).all()


def test_random_directions_are_found_by_their_name():
    (offer,) = find("random:100x16", Wanted(seed=3))
    assert offer.labels.id == "random/gaussian/100x16_seed_3"
    assert offer.nbytes == 4 * 100 * 16
    assert same_bits(rows(offer.open()), RandomDecoder(100, 16, 3).read(0, 100))


@pytest.mark.parametrize("name", ["random:0x4", "random:4x0"])
def test_random_directions_need_rows_and_columns(name):
    with pytest.raises(SourceError, match="at least one row"):
        find(name)
