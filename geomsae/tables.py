"""The table of tail shares of a store, with their errors where degrees were counted."""

from __future__ import annotations

import pandas as pd

from geomsae.analysis import tail_table
from geomsae.analysis.uncertainty import tail_error
from geomsae.bins import DEFAULT_BINS
from geomsae.store import Store

ERRORS = ("standard_error", "lower", "upper", "trusted")
"""Columns that say how sure a tail share is."""


def stored_tail_table(
    store: Store,
    threshold: float = 0.1,
    bins: int = DEFAULT_BINS,
    precision: str = "float32",
) -> pd.DataFrame:
    """Tail shares of every counted dictionary of a store, each with its error.

    Parameters
    ----------
    store : Store
        The store.
    threshold : float
        On an edge of the bins.
    bins, precision : int, str
        Which histograms.

    Returns
    -------
    DataFrame
        As `geomsae.tail_table`, and the ``standard_error`` of the share, the ``lower`` and
        ``upper`` end of its 95 % interval, and whether that is to be ``trusted``, as
        `geomsae.tail_error` gives them; NaN where no degrees were counted at this threshold.

    Raises
    ------
    ThresholdError
        If the threshold lies inside a bin.
    """
    table = tail_table(store.histograms(bins, precision), threshold)
    rows = {id: _errors(store, str(id), threshold, bins, precision) for id in table.index}
    errors = pd.DataFrame.from_dict(rows, orient="index", columns=list(ERRORS))
    return table.join(errors.astype(dict.fromkeys(ERRORS, float)))


def _errors(store: Store, id: str, threshold: float, bins: int, precision: str) -> dict[str, float]:
    degrees = store.degrees(id, threshold, bins, precision)
    if degrees is None:
        return {}
    found = tail_error(degrees)
    return {name: float(found[name].values[0]) for name in ERRORS}
