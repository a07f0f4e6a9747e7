"""The report: one page that draws without a network, and each figure as PNG and SVG."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import holoviews as hv
import jinja2
import matplotlib
import pandas as pd
import xarray as xr
from bokeh.embed import components
from bokeh.resources import Resources

import geomsae
from geomsae.analysis import tail_table
from geomsae.errors import StoreError
from geomsae.pictures.figures import HEIGHT, WIDTH, Figure, figures
from geomsae.study import reference

_INCH = 100
"""Pixels of the page to an inch of a printed figure."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a report consists of."""

    page: Path
    figures: tuple[Path, ...]


def write_report(
    hist: xr.Dataset, folder: Path, threshold: float = 0.1, table: pd.DataFrame | None = None
) -> Written:
    """Write the figures and the page.

    Parameters
    ----------
    hist : Dataset, dims (dictionary, cosine)
        As `Store.histograms` gives it.
    folder : Path
        Where to; made if it is not there.
    threshold : float
        Where the tails begin, on an edge of the bins.
    table : DataFrame, optional
        Its tail shares with their errors, as `geomsae.tables.stored_tail_table` gives them.

    Returns
    -------
    Written
        The page ``report.html``, and a PNG and an SVG of each figure.

    Raises
    ------
    StoreError
        If there is no histogram to show.
    ThresholdError
        If the threshold lies inside a bin.
    """
    if not hist.sizes["dictionary"]:
        raise StoreError("there is nothing to report: count pairs first, with 'geomsae histogram'")
    table = tail_table(hist, threshold) if table is None else table
    known = reference(table, threshold)
    folder.mkdir(parents=True, exist_ok=True)
    # Both must be loaded before either is drawn; the last one named stays the current one.
    hv.extension("matplotlib", "bokeh", logo=False)
    drawn = list(figures(hist, table, known, threshold))
    hv.Store.set_current_backend("matplotlib")
    pictures = [path for figure in drawn for path in _save(figure, folder)]
    hv.Store.set_current_backend("bokeh")
    plots = [hv.render(figure.draw("bokeh"), backend="bokeh") for figure in drawn]
    page = folder / "report.html"
    page.write_text(_page(plots, drawn, table, known, threshold), encoding="utf-8")
    return Written(page, tuple(pictures))


def _page(
    plots: list[Any],
    drawn: list[Figure],
    table: pd.DataFrame,
    known: pd.DataFrame,
    threshold: float,
) -> str:
    """The whole page: every value in it escaped, and everything inside that it needs to draw."""
    script, divs = components(plots) if plots else ("", ())
    text = files("geomsae.pictures").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text).render(
        rows=_rows(table, known),
        kinds=sorted(set(known["kind"])),
        threshold=threshold,
        figures=list(zip(drawn, divs, strict=True)),
        script=script,
        libraries=Resources(mode="inline", components=["bokeh"]).js_raw,
        version=geomsae.__version__,
        pairs=int(table["n_pairs"].sum()),
    )


def _save(figure: Figure, folder: Path) -> list[Path]:
    """Draw one figure by matplotlib, into a PNG and an SVG."""
    style: Any = {
        "axes.grid": True,
        "grid.alpha": 0.3,
        "figure.dpi": _INCH,
        "svg.hashsalt": figure.name,
    }
    with matplotlib.rc_context(style):
        drawn: Any = hv.render(figure.draw("matplotlib"), backend="matplotlib")
        axes = drawn.axes[0]
        axes.set_title(figure.title)
        axes.set_box_aspect(None)  # holoviews makes plots square, and forgets width and height
        axes.set_aspect("auto")
        drawn.set_size_inches(WIDTH / _INCH, HEIGHT / _INCH)
        paths = [folder / f"{figure.name}.{kind}" for kind in ("png", "svg")]
        for path in paths:
            drawn.savefig(path, dpi=2 * _INCH, bbox_inches="tight", metadata={"Date": None})
    matplotlib.pyplot.close(drawn)
    return paths


def _rows(table: pd.DataFrame, known: pd.DataFrame) -> list[dict[Any, Any]]:
    """The table of the page: each dictionary, its tail share, and what is known beside it."""
    joined = table.join(known)
    joined["ratio"] = joined["tail_fraction"] / joined["reference"]
    joined["id"] = joined.index
    return joined.astype(object).where(joined.notna(), None).to_dict("records")
