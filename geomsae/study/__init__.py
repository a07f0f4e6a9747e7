"""Studies whose answer is known: published figures, and decoders planted to have one.

`reference` is what a report sets beside each measured tail share.
"""

from __future__ import annotations

import pandas as pd

from geomsae.study.planted import planted_tails
from geomsae.study.published import published_tails

__all__ = ["reference"]

COLUMNS = ["reference", "uncertainty", "kind"]


def reference(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """What is known beforehand of the tail share of each dictionary.

    Parameters
    ----------
    table : DataFrame
        As `geomsae.tail_table` gives it.
    threshold : float
        Where the tails begin. The published figures are for 0.1 alone.

    Returns
    -------
    DataFrame
        For those ids of `table` of which something is known: the ``reference`` share, its
        ``uncertainty``, and its ``kind``, ``published`` or ``planted``.
    """
    known = {**published_tails(threshold), **planted_tails(threshold)}
    rows = {id: known[id] for id in table.index if id in known}
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
