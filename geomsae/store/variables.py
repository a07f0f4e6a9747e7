"""Small variables in the store: a group of them, written whole."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.storage import MemoryStore

from geomsae.store.guard import seal
from geomsae.store.layout import create_array


def write_variables(
    stage: Path,
    path: str,
    variables: Mapping[Hashable, xr.Variable | xr.DataArray],
    attributes: dict[str, Any],
) -> None:
    """Build a group of variables, each an array of one chunk, and write its files.

    It is built in memory: of each file that Zarr writes itself it awaits the end.

    Parameters
    ----------
    stage : Path
        The folder to write to.
    path : str
        The group.
    variables : mapping
        Its arrays, by name.
    attributes : dict
        What it says about itself.
    """
    files: dict[str, Any] = {}
    target = MemoryStore(files)
    for name, variable in variables.items():
        values = np.asarray(variable)
        array = create_array(
            target,
            f"{path}/{name}",
            values.shape,
            values.shape,
            values.dtype.name,
            tuple(map(str, variable.dims)),
            dict(variable.attrs),
        )
        array[...] = values
    seal(target, path, attributes, map(str, variables))
    for name, content in files.items():
        file = stage / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.as_numpy_array())
