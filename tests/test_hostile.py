"""Files that lie, read in parts as from the Hub: refused by name, before memory is taken."""

import io
import json
import struct
import tracemalloc
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from files import BROKEN, MATRIX, WHOLE
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from geomsae.dictionary import Dictionary
from geomsae.errors import SourceError
from geomsae.sources import Wanted
from geomsae.sources.decoder import open_file
from geomsae.sources.listing import headers


@dataclass(frozen=True)
class Elsewhere:
    """A file that is not here: its bytes come in parts."""

    name: str
    data: bytes
    remote = True

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.data)

    def whole(self) -> Path:
        raise AssertionError("it was brought here whole")


def read(file: Elsewhere) -> np.ndarray:
    decoder = open_file(Dictionary("m"), headers(file), Wanted(), {}, {}, {})
    return np.concatenate(list(decoder.blocks(3)))


def refused(file: Elsewhere) -> str:
    with pytest.raises(SourceError) as refusal:
        read(file)
    assert file.name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_without_a_decoder_is_refused_from_afar_as_well(name):
    tracemalloc.start()
    try:
        refused(Elsewhere(f"owner/repo/{name}", BROKEN[name]))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_read_from_afar(name):
    assert np.array_equal(read(Elsewhere(name, WHOLE[name])), MATRIX)


def tensor_file(header: object, data: bytes = bytes(48)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


F32 = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}
LIES = {
    "outside": {"W_dec": {**F32, "data_offsets": [0, 96], "shape": [8, 3]}},
    "backwards": {"W_dec": {**F32, "data_offsets": [48, 0]}},
    "negative": {"W_dec": {**F32, "shape": [-4, -3]}},
    "overlap": {"a": F32, "W_dec": F32},
    "gap": {"W_dec": {**F32, "shape": [2, 3], "data_offsets": [24, 48]}},
    "fraction": {"W_dec": {**F32, "shape": [4.0, 3]}},
    "truth": {"W_dec": {**F32, "shape": [True, 12]}},
    "no_shape": {"W_dec": {"dtype": "F32", "data_offsets": [0, 48]}},
    "list": [F32],
    "text": "W_dec",
    "twice": b'{"W_dec":%s,"W_dec":%s}' % ((json.dumps(F32).encode(),) * 2),
    "deep": b'{"a":' + b"[" * 100_000,
    "type": {"W_dec": {**F32, "dtype": "F33"}},
    "three_offsets": {"W_dec": {**F32, "data_offsets": [0, 24, 48]}},
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_refused(name):
    file = Elsewhere(f"{name}.safetensors", tensor_file(LIES[name]))
    assert "not a whole safetensors file" in refused(file)


@settings(max_examples=300)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_of_a_header_with_a_wrong_byte_no_more_is_believed_than_the_library_believes(place, byte):
    data = bytearray(save({"W_dec": MATRIX, "b_dec": MATRIX[0]}))
    length = 8 + int.from_bytes(data[:8], "little")
    data[place % length] = byte
    file = Elsewhere("w.safetensors", bytes(data))
    try:
        ours = {t.key: (t.shape, t.dtype) for t in headers(file)}
    except SourceError:
        return
    try:
        theirs = load(bytes(data))
    except (SafetensorError, KeyError, AttributeError, TypeError):
        pytest.fail(f"believed: {bytes(data[:length])!r}")
    assert {key: value.shape for key, value in theirs.items()} == {
        key: shape for key, (shape, _) in ours.items()
    }


@pytest.mark.parametrize("kind", ["stored.npz", "deflated.npz"])
@settings(max_examples=200)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_of_a_zip_with_a_wrong_byte_either_all_is_right_or_nothing_is_read(kind, place, byte):
    data = bytearray(WHOLE[kind])
    data[place % len(data)] = byte
    try:
        values = read(Elsewhere(kind, bytes(data)))
    except SourceError:
        return
    assert np.array_equal(values, MATRIX)


def test_a_member_that_claims_more_than_it_can_hold_is_no_bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 12)}
        np.lib.format.write_array_header_1_0(header, shape)
        archive.writestr("W_dec.npy", header.getvalue() + bytes(1 << 20))
    data = bytearray(file.getvalue())
    size = struct.pack("<I", (1 << 20) + len(header.getvalue()))
    claimed = data.replace(size, struct.pack("<I", 0xFFFFFFF0))
    assert claimed != data
    assert "claims more than deflate can pack" in refused(Elsewhere("bomb.npz", bytes(claimed)))


def test_a_pickle_in_a_pytorch_file_is_never_run(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch reads .pt files, and is not installed")

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "went_off",)

    from geomsae.sources import find

    torch.save({"W_dec": torch.ones(4, 3), "more": Bomb()}, tmp_path / "w.pt")
    (offer,) = find(str(tmp_path / "w.pt"), Wanted(model="m"))
    with pytest.raises(SourceError, match="could run code of its author"):
        offer.open()
    assert not (tmp_path / "went_off").exists()


def test_without_pytorch_its_files_name_the_way_out(tmp_path, monkeypatch):
    import sys

    from geomsae.sources import find

    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"PK")
    (offer,) = find(str(tmp_path / "w.pt"), Wanted(model="m"))
    with pytest.raises(SourceError, match=r"pip install 'geomsae\[torch\]'"):
        offer.open()


@pytest.mark.parametrize("name", ["../evil.npz", "/etc/evil.npz", "a/../../evil.npz"])
def test_a_place_is_never_made_of_the_name_of_a_file(tmp_path, name):
    import geomsae

    rows = np.ones((3, 2), np.float32)
    np.savez(tmp_path / PurePosixPath(name).name, W_dec=rows)
    store = geomsae.open_store(tmp_path / "deep" / "store", create=True)
    source = str(tmp_path / PurePosixPath(name).name)
    (outcome,) = geomsae.convert(source, store, Wanted(model="m", tag="x"))
    assert outcome.id == "m/x"
    with pytest.raises(Exception, match="cannot stand in an id"):
        list(geomsae.convert(source, store, Wanted(model=name)))
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"store"}
