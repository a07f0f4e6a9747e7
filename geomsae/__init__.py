"""Measure the geometry of sparse-autoencoder dictionaries, out of core.

Decoders go into a chunked Zarr store once; Dask schedules block-pair products over the lower
triangle; what comes back are labelled xarray datasets of pairwise cosine similarities.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from geomsae.analysis import (
        at_common_l0,
        expected_counts,
        isotropic_tail,
        sampled_tail_spread,
        share_by_l0,
        slope_of_l0,
        tail_difference,
        tail_error,
        tail_fraction,
        tail_table,
        with_expected,
    )
    from geomsae.analysis.coherence import coherence, welch_bound
    from geomsae.analysis.comparison import compare, comparison_matrix
    from geomsae.analysis.groups import groups
    from geomsae.analysis.matched import centred, matched_directions, without_top
    from geomsae.analysis.matching import one_to_one
    from geomsae.analysis.moments import anisotropy, feature_dimensionality
    from geomsae.comparisons import compare_stored
    from geomsae.conversion import convert
    from geomsae.errors import GeomsaeError
    from geomsae.labels import index_dictionaries
    from geomsae.pairs.cosine import cosine_histogram
    from geomsae.results import compute_histograms
    from geomsae.sources import Family, register_family
    from geomsae.store import Store, open_store
    from geomsae.tables import stored_tail_table

_HOME = {
    "open_store": "geomsae.store",
    "Store": "geomsae.store",
    "convert": "geomsae.conversion",
    "cosine_histogram": "geomsae.pairs.cosine",
    "compute_histograms": "geomsae.results",
    "tail_fraction": "geomsae.analysis",
    "tail_table": "geomsae.analysis",
    "stored_tail_table": "geomsae.tables",
    "tail_error": "geomsae.analysis",
    "tail_difference": "geomsae.analysis",
    "share_by_l0": "geomsae.analysis",
    "at_common_l0": "geomsae.analysis",
    "slope_of_l0": "geomsae.analysis",
    "isotropic_tail": "geomsae.analysis",
    "expected_counts": "geomsae.analysis",
    "with_expected": "geomsae.analysis",
    "sampled_tail_spread": "geomsae.analysis",
    "matched_directions": "geomsae.analysis.matched",
    "centred": "geomsae.analysis.matched",
    "without_top": "geomsae.analysis.matched",
    "anisotropy": "geomsae.analysis.moments",
    "feature_dimensionality": "geomsae.analysis.moments",
    "coherence": "geomsae.analysis.coherence",
    "welch_bound": "geomsae.analysis.coherence",
    "compare": "geomsae.analysis.comparison",
    "comparison_matrix": "geomsae.analysis.comparison",
    "groups": "geomsae.analysis.groups",
    "one_to_one": "geomsae.analysis.matching",
    "compare_stored": "geomsae.comparisons",
    "index_dictionaries": "geomsae.labels",
    "Family": "geomsae.sources",
    "register_family": "geomsae.sources",
    "GeomsaeError": "geomsae.errors",
}

__all__ = [  # noqa: RUF022 - in the order of the work
    "open_store",
    "Store",
    "convert",
    "cosine_histogram",
    "compute_histograms",
    "tail_fraction",
    "tail_table",
    "stored_tail_table",
    "tail_error",
    "tail_difference",
    "share_by_l0",
    "at_common_l0",
    "slope_of_l0",
    "isotropic_tail",
    "expected_counts",
    "with_expected",
    "sampled_tail_spread",
    "matched_directions",
    "centred",
    "without_top",
    "anisotropy",
    "feature_dimensionality",
    "coherence",
    "welch_bound",
    "compare",
    "comparison_matrix",
    "groups",
    "one_to_one",
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
