"""Files of every format: read exactly, block by block, or refused in one line."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from files import BROKEN, MATRIX, WHOLE, opened, rows, safetensors, same_bits, saved
from hypothesis import given, settings
from hypothesis import strategies as st

from geomsae.errors import SourceError

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)


def finite(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """Every finite bit pattern may come, subnormals and negative zero among them."""
    values = np.frombuffer(rng.bytes(math.prod(shape) * np.dtype(dtype).itemsize), dtype)
    return np.where(np.isfinite(values), values, 1).reshape(shape).astype(dtype)


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


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_without_a_decoder_is_refused_in_one_line_that_names_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(SourceError) as refusal:
        opened(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


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
