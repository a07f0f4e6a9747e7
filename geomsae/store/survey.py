"""What lies in a store, folder by folder, whether or not the catalogue knows of it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from geomsae.dictionary import RESULTS, Dictionary
from geomsae.errors import GeomsaeError
from geomsae.store.guard import (
    array_problem,
    arrays_guarded,
    attributes_problem,
    is_guarded,
)
from geomsae.store.layout import COMPLETE, FORMAT, KIND, features_path, histogram_path
from geomsae.store.staging import METADATA

STORE, GROUP, DECODER, HISTOGRAM, FEATURES, STRAY = (
    "store",
    "group",
    "decoder",
    "histogram",
    "features",
    "stray",
)
"""What a place can be: a group of the hierarchy that only leads to others, one that holds
something, or what belongs to nothing."""

ROOT = {"zarr_format": 3, "node_type": "group", "attributes": {KIND: "store", "format": FORMAT}}
"""What the metadata of a store says."""

EMPTY = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
"""What the metadata of a group says that only leads to others."""

_DECODER_ARRAYS = ("W_dec", "norm")
_HISTOGRAM_ARRAYS = ("count", "cosine", "cosine_left", "cosine_right")


@dataclass(frozen=True, slots=True)
class Place:
    """A group of a store, or what does not belong into it.

    Parameters
    ----------
    path : str
        Where it lies in the store; empty for the store itself.
    kind : str
        What it is, or would be if it were whole.
    id : str
        The dictionary that it belongs to, or the path of a group that leads to several.
    part : str
        Which part of that.
    attributes : dict
        What it says about itself, as far as that can be read.
    problem : str
        What is wrong with its metadata, its files or its name; empty where nothing is.
    """

    path: str
    kind: str
    id: str
    part: str
    attributes: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def unguarded(self) -> bool:
        """Whether it was written before metadata was guarded."""
        return bool(self.attributes) and not is_guarded(self.attributes)


class _WrongError(GeomsaeError):
    """Metadata is not as it has to be."""


class Survey:
    """A walk through a store that trusts no file of it.

    Parameters
    ----------
    fs : fsspec filesystem
        Where the store is.
    root : str
        Its path there.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self.fs = fs
        self.root = str(root).rstrip("/")
        fs.invalidate_cache()

    def places(self) -> Iterator[Place]:
        """Every group that holds something, and whatever else is not as it has to be."""
        if problem := self.root_problem():
            yield Place("", STORE, "/", STORE, problem=problem)
        files, folders = self._list("")
        yield from self._strays("", files)
        for name in folders:
            yield from self._group(name)

    def root_problem(self) -> str:
        """What is wrong with the metadata of the store itself; empty where nothing is."""
        try:
            found = self._metadata("")
        except _WrongError as error:
            return str(error)
        said = _attributes(found)
        mine = {**found, "attributes": {k: v for k, v in said.items() if k in (KIND, "format")}}
        return _difference(mine, ROOT)

    def is_later(self) -> bool:
        """Whether the store says that a later geomsae wrote it: then it is not ours to judge."""
        try:
            said = _attributes(self._metadata("")).get("format")
        except _WrongError:
            return False
        return isinstance(said, int) and said > FORMAT

    def holds_decoders(self, path: str = "") -> bool:
        """Whether anything below a folder is, or was once, a decoder."""
        return any(set(_DECODER_ARRAYS) & set(file.split("/")) for file in self._files(path))

    def at(self, *parts: str) -> str:
        """The path of something in the store as its file system takes it."""
        return "/".join([self.root, *(part for part in parts if part)])

    def _group(self, path: str) -> Iterator[Place]:
        files, folders = self._list(path)
        if _is_hidden(path) and METADATA not in files:
            return
        try:
            metadata: dict[str, Any] | None = self._metadata(path)
            problem = _difference(metadata or {}, EMPTY)
        except _WrongError as error:
            metadata, problem = None, str(error)
        attributes = _attributes(metadata)
        if set(folders) & set(_DECODER_ARRAYS) or attributes.get(KIND) == DECODER:
            yield from self._decoder(path, metadata, problem, files, folders)
            return
        if problem and not self.holds_decoders(path):
            yield self._stray(path)
            return
        if problem:
            yield Place(path, GROUP, path, GROUP, problem=problem)
        yield from self._strays(path, files)
        for name in folders:
            yield from self._group(f"{path}/{name}")

    def _decoder(
        self,
        path: str,
        metadata: dict[str, Any] | None,
        problem: str,
        files: list[str],
        folders: list[str],
    ) -> Iterator[Place]:
        attributes = _attributes(metadata)
        if metadata is not None:
            problem = self._finished_problem(path, DECODER, metadata, _DECODER_ARRAYS)
            problem = problem or _misplaced_decoder(path, attributes)
        yield Place(path, DECODER, path, DECODER, attributes, problem)
        yield from self._strays(path, files)
        if not problem:
            for array in _DECODER_ARRAYS:
                yield from self._stray_chunks(path, array)
        if RESULTS in folders:
            yield from self._results(path, attributes, sound=not problem)
        for name in folders:
            if name not in (*_DECODER_ARRAYS, RESULTS):
                yield from self._group(f"{path}/{name}")

    def _results(self, id: str, decoder: dict[str, Any], *, sound: bool) -> Iterator[Place]:
        """What was computed of a decoder, histograms first."""
        path = f"{id}/{RESULTS}"
        files, folders = self._list(path)
        try:
            problem = _difference(self._metadata(path), EMPTY)
        except _WrongError as error:
            problem = str(error)
        if problem:
            yield Place(path, GROUP, id, RESULTS, problem=problem)
        yield from self._strays(path, files)
        for kind in (HISTOGRAM, FEATURES):
            for name in (name for name in folders if name.startswith(f"{kind}_")):
                yield from self._result(id, name, kind, decoder if sound else {})
        for name in folders:
            if not name.startswith((f"{HISTOGRAM}_", f"{FEATURES}_")):
                yield self._stray(f"{path}/{name}")

    def _result(self, id: str, name: str, kind: str, decoder: dict[str, Any]) -> Iterator[Place]:
        path = f"{id}/{RESULTS}/{name}"
        files, folders = self._list(path)
        attributes: dict[str, Any] = {}
        arrays: Iterable[str] = ()
        try:
            metadata = self._metadata(path)
            attributes = _attributes(metadata)
            told = attributes.get("array_sha256")
            arrays = list(told) if isinstance(told, dict) else _HISTOGRAM_ARRAYS
            problem = self._finished_problem(path, kind, metadata, arrays)
            problem = problem or _misplaced_result(path, id, kind, attributes, decoder)
        except _WrongError as error:
            problem = str(error)
        yield Place(path, kind, id, name, attributes, problem)
        if problem:
            return
        yield from self._strays(path, files)
        for array in folders:
            if array in arrays:
                yield from self._stray_chunks(path, array)
            else:
                yield self._stray(f"{path}/{array}")

    def _finished_problem(
        self, path: str, kind: str, metadata: dict[str, Any], arrays: Iterable[str]
    ) -> str:
        """What is wrong with the metadata of a group that holds something, and of its arrays."""
        attributes = _attributes(metadata)
        if problem := attributes_problem(attributes):
            return problem
        if problem := _difference({**metadata, "attributes": {}}, EMPTY):
            return problem
        if (attributes.get(KIND), attributes.get("status")) != (kind, COMPLETE):
            return f"its {METADATA} does not say that it is a finished {kind}"
        if is_guarded(attributes) and set(arrays_guarded(attributes)) != set(arrays):
            return "its arrays are not those that were written"
        for name in arrays:
            try:
                text = self._text(f"{path}/{name}")
                problem = array_problem(attributes, name, text)
                missing = _chunks(_parsed(text)) - set(self._files(f"{path}/{name}"))
            except _WrongError as error:
                return f"{name}: {error}"
            if problem:
                return problem
            if missing:
                return f"{name} has lost {len(missing)} of its chunks, {min(missing)} for one"
        return ""

    def _stray_chunks(self, path: str, array: str) -> Iterator[Place]:
        known = _chunks(_parsed(self._text(f"{path}/{array}"))) | {METADATA}
        for file in self._files(f"{path}/{array}"):
            if file not in known and not _is_hidden(file):
                yield self._stray(f"{path}/{array}/{file}")

    def _strays(self, path: str, files: list[str]) -> Iterator[Place]:
        for name in files:
            if name != METADATA and not _is_hidden(name):
                yield self._stray(f"{path}/{name}" if path else name)

    def _stray(self, path: str) -> Place:
        """What lies where nothing of a store lies; a dictionary's, if it lies in one."""
        above = list(itertools.accumulate(path.split("/"), "{}/{}".format))[:-1]
        owners = [p for p in above if self.fs.exists(self.at(p, _DECODER_ARRAYS[0]))]
        id = (owners or above or ["/"])[-1]
        part = path.removeprefix(f"{id}/")
        return Place(path, STRAY, id, part, problem="it is no part of a store")

    def _list(self, path: str) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders in a folder, numbers in their order."""
        entries = self.fs.ls(self.at(path), detail=True)
        named = sorted(
            ((PurePosixPath(entry["name"]).name, entry["type"]) for entry in entries),
            key=lambda entry: _in_order(entry[0]),
        )
        files = [name for name, type in named if type != "directory"]
        return files, [name for name, type in named if type == "directory"]

    def _files(self, path: str) -> list[str]:
        """Every file at or below a folder, named from there."""
        start = f"{self.at(path)}/"
        return [str(file).removeprefix(start) for file in self.fs.find(self.at(path))]

    def _metadata(self, path: str) -> dict[str, Any]:
        return _parsed(self._text(path))

    def _text(self, path: str) -> bytes:
        try:
            text: bytes = self.fs.cat_file(self.at(path, METADATA))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise _WrongError(f"its {METADATA} is missing") from error
        return text


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _WrongError(f"its {METADATA} cannot be read") from error
    if not isinstance(found, dict):
        raise _WrongError(f"its {METADATA} cannot be read")
    return found


def _attributes(metadata: dict[str, Any] | None) -> dict[str, Any]:
    found = (metadata or {}).get("attributes")
    return found if isinstance(found, dict) else {}


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """What is not as expected; more than that may be there, as other programs put it."""
    for name, value in expected.items():
        if json.dumps(found.get(name), sort_keys=True) != json.dumps(value, sort_keys=True):
            return f"its {METADATA} does not say what it has to about {name}"
    return ""


def _misplaced_decoder(path: str, attributes: dict[str, Any]) -> str:
    try:
        id = Dictionary.from_json(attributes).id
    except (GeomsaeError, TypeError) as error:
        return f"its labels are none: {error}"
    return "" if id == path else f"by its labels it is {id}"


def _misplaced_result(
    path: str, id: str, kind: str, attributes: dict[str, Any], decoder: dict[str, Any]
) -> str:
    place = histogram_path if kind == HISTOGRAM else features_path
    said = place(id, attributes.get("bins", 0), attributes.get("precision", ""))
    if said != path:
        return f"by its attributes it is {PurePosixPath(said).name}"
    if decoder and decoder.get("sha256") != attributes.get("sha256"):
        return "it was made of other values than the decoder has"
    return ""


def _chunks(metadata: dict[str, Any]) -> set[str]:
    """Names of the chunks of an array, as `geomsae.store.layout` has them written."""
    try:
        sizes = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [range(-(-n // size)) for n, size in zip(metadata["shape"], sizes, strict=True)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _WrongError(f"its {METADATA} cannot be read") from error
    return {"/".join(["c", *map(str, place)]) for place in itertools.product(*counts)}


def _is_hidden(path: str) -> bool:
    """Whether something is what other programs leave behind, and Zarr passes over."""
    return any(part.startswith(".") for part in path.split("/"))


def _in_order(name: str) -> list[tuple[int, str]]:
    """A key to sort names by that have numbers in them."""
    parts = re.split(r"(\d+)", name)
    return [(int(part) if part.isdigit() else -1, part) for part in parts]
