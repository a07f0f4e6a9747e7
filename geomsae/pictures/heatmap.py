"""Dictionaries beside each other as a table in colours: a file of its own, PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib
import numpy as np
import pandas as pd
import xarray as xr

from geomsae.dictionary import LABELS
from geomsae.errors import SelectionError

KINDS = (".png", ".svg")
"""How the name of a picture may end."""

_SMALLEST = 3.0
"""Inches of a table of few dictionaries."""

_WIDE, _NARROW = 0.55, 0.2
"""Inches of a cell that a number can be read in, and of one that has a name beside it."""

_WITH_NUMBERS = 20
"""Dictionaries up to which each cell has its number."""

_GREY = "#e3e6e9"


def check_picture(path: Path) -> Path:
    """Refuse the name of a picture that cannot be drawn.

    Raises
    ------
    SelectionError
        If it ends neither in ``.png`` nor in ``.svg``.

    Examples
    --------
    >>> check_picture(Path("layers.png")).name
    'layers.png'
    """
    if path.suffix.lower() not in KINDS:
        raise SelectionError(f"{path} is no picture: let its name end in {' or '.join(KINDS)}")
    return path


def draw_matrix(matrix: xr.DataArray, path: Path) -> Path:
    """Draw how near dictionaries are to each other, two by two.

    Parameters
    ----------
    matrix : DataArray, dims (dictionary, other_dictionary)
        As `geomsae.comparison_matrix` gives it. Cells that are NaN are left grey.
    path : Path
        The picture, a PNG or an SVG by its ending. Folders are made if they are not there.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    SelectionError
        If the name ends otherwise.
    """
    check_picture(path)
    names, shared = short_names(matrix)
    n = len(names)
    before = hv.Store.current_backend
    hv.extension("matplotlib", logo=False)
    if before in hv.Store.loaded_backends():
        hv.Store.set_current_backend(before)  # a notebook goes on drawing as it did
    small = 9 if n <= _WITH_NUMBERS else 7
    with matplotlib.rc_context({"font.size": small, "svg.hashsalt": path.name}):
        drawn: Any = hv.render(_cells(matrix, names), backend="matplotlib")
        side = max(_SMALLEST, _WIDE * min(n, _WITH_NUMBERS), _NARROW * n)
        drawn.set_size_inches(side + 2, side + 1)
        axes = drawn.axes[0]
        axes.set_box_aspect(1)
        axes.set_title(shared, loc="left", fontsize=11)
        axes.set_xlabel("nearest feature of", fontsize=10)
        axes.set_ylabel("features of", fontsize=10)
        axes.tick_params(labelsize=small, length=0)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")  # ends below its column
        bar = drawn.colorbar(axes.collections[0], ax=axes, fraction=0.046, pad=0.03)
        bar.set_label("mean max cosine similarity")
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=200, bbox_inches="tight", metadata={"Date": None})
    matplotlib.pyplot.close(drawn)
    return path


def short_names(matrix: xr.DataArray) -> tuple[list[str], str]:
    """What tells each dictionary from the others, and what all of them share.

    Parameters
    ----------
    matrix : DataArray, dims (dictionary, other_dictionary)
        With its labels along ``dictionary``.

    Returns
    -------
    tuple of list of str and str
        A name for each dictionary, and the labels that they share. Whole ids, and nothing shared,
        where the labels do not tell them apart.

    Examples
    --------
    >>> labels = {"layer": [5, 10], "model": ["m", "m"], "l0": [80.0, 90.0]}
    >>> along = {name: ("dictionary", values) for name, values in labels.items()}
    >>> dims = ("dictionary", "other_dictionary")
    >>> found = xr.DataArray(np.eye(2), {"dictionary": ["m/5", "m/10"], **along}, dims)
    >>> short_names(found)
    (['layer 5', 'layer 10'], 'm')
    """
    ids = [str(id) for id in matrix["dictionary"].values]
    known = [name for name in LABELS if name in matrix.coords and name != "l0"]
    table = pd.DataFrame({name: matrix[name].values for name in known}, index=ids)
    words = table.astype(object).where((table != "") & (table != -1), "").astype(str)
    for name, before in (("layer", "layer "), ("l0_label", "L0 ")):
        if name in words:
            words[name] = words[name].where(words[name] == "", before + words[name])
    differing = [name for name in known if words[name].nunique() > 1]
    # An L0 differs from layer to layer without telling anything that the layer does not.
    kept = [name for name in differing if name != "l0_label"]
    for chosen in (kept, differing):
        names = words[chosen].agg(_joined, axis=1).tolist() if chosen else []
        if len(set(names)) == len(ids) and all(names):
            return names, _joined(words[name].iloc[0] for name in known if name not in differing)
    return ids, ""


def _cells(matrix: xr.DataArray, names: list[str]) -> Any:
    """The cells, the first dictionary on top, and the number in each where there is room."""
    values = matrix.values.astype(float)
    n = len(names)
    least = min(0.0, float(np.nanmin(values, initial=0.0)))
    ticks = list(enumerate(names))
    options: dict[str, Any] = {
        "cmap": "viridis",
        "clim": (least, 1.0),
        "bgcolor": _GREY,
        "xticks": ticks,
        "yticks": ticks,
        "xrotation": 45,
        "invert_yaxis": True,
        "xlim": (-0.5, n - 0.5),
        "ylim": (-0.5, n - 0.5),
    }
    edges = np.arange(n + 1) - 0.5
    layers = [hv.QuadMesh((edges, edges, values)).opts(**options, backend="matplotlib")]
    if n <= _WITH_NUMBERS:
        middle = (least + 1) / 2
        for colour, inside in (("white", values < middle), ("black", values >= middle)):
            texts = [(j, i, f"{values[i, j]:.2f}") for i, j in np.argwhere(inside).tolist()]
            numbers = hv.Labels(texts, ["x", "y"], ["text"])
            layers.append(numbers.opts(color=colour, size=9, backend="matplotlib"))
    return hv.Overlay(layers)


def _joined(words: Any) -> str:
    return " ".join(word for word in words if word)
