"""The reference that counts are held against: every cosine in float64, one by one."""

from __future__ import annotations

import numpy as np

from geomsae.bins import edges

NEAR = 2e-6
"""Pairs whose exact cosine lies this close to an edge may be counted on either side of it."""


def cosines(w, v=None):
    """Every cosine of a pair of rows that have a direction, float64."""
    rows = _unit(w)
    if v is None:
        return (rows @ rows.T)[np.tril_indices(len(rows), -1)]
    return (rows @ _unit(v).T).ravel()


def assert_counts(hist, exact):
    """Hold the counts of a histogram against exact cosines, at every edge."""
    count = np.asarray(hist["count"])
    assert count.dtype == np.int64
    assert count.sum() == int(hist["n_pairs"]) == exact.size
    exact = np.sort(exact)
    inner = edges(count.size)[1:-1]
    below = np.searchsorted(exact, inner, "left")
    doubtful = np.searchsorted(exact, inner + NEAR, "right") - np.searchsorted(
        exact, inner - NEAR, "left"
    )
    assert (np.abs(np.cumsum(count)[:-1] - below) <= doubtful).all()


def _unit(w):
    rows = np.asarray(w, np.float64)
    largest = np.abs(rows).max(axis=1)
    rows = rows[largest > 0] / largest[largest > 0, None]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
