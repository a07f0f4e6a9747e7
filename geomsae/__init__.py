"""Measure the geometry of sparse-autoencoder dictionaries, out of core.

Decoders go into a chunked Zarr store once; Dask schedules block-pair products over the lower
triangle; what comes back are labelled xarray datasets of pairwise cosine similarities.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from geomsae.analysis import tail_fraction, tail_table
    from geomsae.analysis.comparison import compare
    from geomsae.comparisons import compare_stored
    from geomsae.conversion import convert
    from geomsae.errors import GeomsaeError
    from geomsae.labels import index_dictionaries
    from geomsae.pairs import cosine_histogram
    from geomsae.results import compute_histograms
    from geomsae.sources import Family, register_family
    from geomsae.store import Store, open_store

_HOME = {
    "GeomsaeError": "geomsae.errors",
    "Store": "geomsae.store",
    "compare": "geomsae.analysis.comparison",
    "compare_stored": "geomsae.comparisons",
    "compute_histograms": "geomsae.results",
    "convert": "geomsae.conversion",
    "cosine_histogram": "geomsae.pairs",
    "index_dictionaries": "geomsae.labels",
    "open_store": "geomsae.store",
    "Family": "geomsae.sources",
    "register_family": "geomsae.sources",
    "tail_fraction": "geomsae.analysis",
    "tail_table": "geomsae.analysis",
}

__all__ = [  # noqa: RUF022 - in the order of the work
    "open_store",
    "Store",
    "convert",
    "cosine_histogram",
    "compute_histograms",
    "tail_fraction",
    "tail_table",
    "compare",
    "compare_stored",
    "index_dictionaries",
    "Family",
    "register_family",
    "GeomsaeError",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: the command line must answer at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'geomsae' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
