"""Guarding what a finished group says about itself, and reading its arrays by that.

Chunks carry checksums of their own. The metadata around them, a ``zarr.json`` for the group and one
for each of its arrays, is held by the attribute `GUARD` of the group: lines as ``sha256sum`` writes
them, one for the attributes and one for the bytes of each array's file.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync

from geomsae.dictionary import RESULTS
from geomsae.errors import DamagedError
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.layout import COMPLETE, KIND, UNFINISHED
from geomsae.store.staging import METADATA

GUARD = "metadata_sha256"
"""The attribute that guards the others, and the metadata of arrays."""

_OWN = "attributes"

_SECONDS_TO_APPEAR = 0.1


def seal(
    target: Any, path: str, attributes: dict[str, Any], arrays: Iterable[str]
) -> dict[str, Any]:
    """Give a group its attributes, after all else of it is written.

    Parameters
    ----------
    target : zarr store
        Where the group is built.
    path : str
        The group, with its arrays.
    attributes : dict
        What it says about itself.
    arrays : iterable of str
        Names of its arrays.

    Returns
    -------
    dict
        The attributes with what guards them.
    """
    kept = default_buffer_prototype()
    lines = []
    for name in sorted(arrays):
        file = sync(target.get(f"{path}/{name}/{METADATA}", kept))
        lines.append(f"{_sha256(file.to_bytes())}  {name}/{METADATA}")
    sealed = guarded(attributes, lines)
    zarr.open_group(target, path=path, mode="r+").update_attributes(sealed)
    return sealed


def guarded(attributes: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """Attributes with a guard over them, and over arrays that have their lines already."""
    bare = {**attributes, GUARD: "\n".join(lines)}
    own = f"{_sha256(_canonical(bare))}  {_OWN}"
    # What says that the group is finished stays last.
    return {GUARD: "\n".join([own, *lines]), **{k: v for k, v in attributes.items() if k != GUARD}}


def is_guarded(attributes: dict[str, Any]) -> bool:
    """Whether a group was written since metadata is guarded, its guard being sound or not."""
    return GUARD in attributes or any(
        isinstance(value, str) and f"/{METADATA}" in value for value in attributes.values()
    )


def arrays_guarded(attributes: dict[str, Any]) -> dict[str, str]:
    """The digest of each array's metadata, by the array's name."""
    _, *lines = str(attributes[GUARD]).split("\n")
    pairs = [line.partition("  ") for line in lines]
    return {file.removesuffix(f"/{METADATA}"): digest for digest, _, file in pairs}


def attributes_problem(attributes: dict[str, Any]) -> str:
    """What is wrong with the attributes of a group; empty where nothing is, or nobody knows."""
    if not is_guarded(attributes):
        return ""
    _, *lines = str(attributes.get(GUARD, "")).split("\n")
    if attributes.get(GUARD) == guarded(attributes, lines)[GUARD]:
        return ""
    return "its attributes are not those that were written: their sha256 differs"


def array_problem(attributes: dict[str, Any], name: str, metadata: bytes) -> str:
    """What is wrong with the metadata of an array; empty where nothing is, or nobody knows."""
    if not is_guarded(attributes) or arrays_guarded(attributes).get(name) == _sha256(metadata):
        return ""
    return f"the metadata of {name} is not what was written: its sha256 differs"


def finished(hierarchy: Hierarchy, path: str) -> dict[str, Any] | None:
    """The attributes of a finished group; None where nothing lies.

    Raises
    ------
    DamagedError
        If what lies there is damaged: it is neither finished nor can it be made again.
    """
    attributes = hierarchy.attributes(path)
    if attributes is None:
        if not hierarchy.fs.exists(_place(hierarchy, path)):
            return None
        attributes = hierarchy.attributes(path)  # another run may have brought it between the looks
    if attributes is None:
        raise damaged(hierarchy, path, f"its {METADATA} is missing, or not that of a group")
    problem = attributes_problem(attributes)
    if problem:
        raise damaged(hierarchy, path, problem)
    return attributes if attributes.get("status") == COMPLETE else None


def finished_decoders(hierarchy: Hierarchy) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every finished decoder with its attributes.

    Raises
    ------
    DamagedError
        If the attributes of one are damaged, or do not say any longer that it is one.
    """
    for path, attributes, names in hierarchy.walk(into_results=False):
        if _is_finished(attributes):
            problem = attributes_problem(attributes)
            if problem:
                raise damaged(hierarchy, path, problem)
            yield path, attributes
        elif "W_dec" in names and attributes.get("status") != UNFINISHED:
            time.sleep(_SECONDS_TO_APPEAR)  # a group that was there gets its attributes last
            if not _is_finished(again := hierarchy.attributes(path) or {}):
                raise damaged(hierarchy, path, "it does not say that it is a finished decoder")
            yield path, again


def _is_finished(attributes: dict[str, Any]) -> bool:
    return attributes.get(KIND) == "decoder" and attributes.get("status") == COMPLETE


def open_array(
    hierarchy: Hierarchy, path: str, name: str, attributes: dict[str, Any]
) -> zarr.Array[Any]:
    """Open an array of a group, once its metadata is found to be what was written.

    Parameters
    ----------
    hierarchy : Hierarchy
        The store.
    path, name : str
        The group, and its array.
    attributes : dict
        Of the group.

    Raises
    ------
    DamagedError
        If it is missing or damaged.
    """
    try:
        metadata = hierarchy.fs.cat_file(_place(hierarchy, path, name, METADATA))
        problem = attributes_problem(attributes) or array_problem(attributes, name, metadata)
        if problem:
            raise damaged(hierarchy, path, problem)
        array: zarr.Array[Any] = zarr.open_array(
            hierarchy.zarr_store(), path=f"{path}/{name}", mode="r", zarr_format=3
        )
    except FileNotFoundError as error:
        raise damaged(hierarchy, path, f"{name} is missing") from error
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # as Zarr's readers put it
        raise damaged(hierarchy, path, f"the metadata of {name} cannot be read") from error
    return array


def read_array(
    hierarchy: Hierarchy, path: str, name: str, attributes: dict[str, Any]
) -> NDArray[Any]:
    """Read all values of an array of a group; see `open_array` and `read_values`."""
    return read_values(hierarchy, path, open_array(hierarchy, path, name, attributes))


def read_values(hierarchy: Hierarchy, path: str, array: zarr.Array[Any]) -> NDArray[Any]:
    """Read all values of an open array of the group at `path`.

    Raises
    ------
    DamagedError
        If a chunk is damaged.
    """
    try:
        return np.asarray(array[...])
    except (RuntimeError, ValueError) as error:  # a checksum, or fewer bytes than one takes
        why = f"{array.basename} cannot be read: {' '.join(str(error).split())}"
        raise damaged(hierarchy, path, why) from error


def damaged(hierarchy: Hierarchy, path: str, why: str) -> DamagedError:
    """The sentence about a damaged group, with the way out."""
    id, _, part = path.partition(f"/{RESULTS}/")
    named = f"{part} of {id}" if part else id
    return DamagedError(
        f"{named} is damaged, {why}: set it aside with "
        f"'geomsae verify --repair --store {hierarchy.location} {id}', then make it again"
    )


def _place(hierarchy: Hierarchy, *parts: str) -> str:
    return "/".join([str(hierarchy.root).rstrip("/"), *parts])


def _canonical(attributes: dict[str, Any]) -> bytes:
    """Attributes as bytes that are the same whoever writes them, in whatever order."""
    return json.dumps(attributes, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
