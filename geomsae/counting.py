"""One stored dictionary, or the pairs of two, counted from where an interrupted run got to."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.errors import GeomsaeError
from geomsae.pairs.budget import Budget, Job
from geomsae.pairs.plan import TILE, SuperTile, plan_rectangle, plan_triangle
from geomsae.pairs.schedule import run
from geomsae.pairs.stored import StoredDecoder, count_stored, forget
from geomsae.pairs.tally import Tally
from geomsae.store import Store
from geomsae.store.layout import chunk_rows
from geomsae.store.partial import Partial

SECONDS_BETWEEN_KEEPING = 30.0
"""How often what is counted so far of a dictionary is kept: so much work a kill may cost."""

Progress = Callable[[int], object]
"""Told how many pairs were just dealt with."""

_DONE = "done"


def check_device(device: str) -> str:
    """Return `device` if pairs can be counted on it.

    Raises
    ------
    GeomsaeError
        If they cannot.
    """
    if device not in ("auto", "cpu"):
        raise GeomsaeError(f"pairs cannot be counted on {device!r} yet: use auto or cpu")
    return device


def job_of(store: Store, id: str) -> Job:
    """A dictionary of a store as a job: its shape, and how many rows are read at a time."""
    known = store.attributes(id)
    n, d = known["n_features"], known["d_model"]
    return Job(n, d, max(TILE, chunk_rows(n, d) // TILE * TILE))


def stored_decoder(store: Store, id: str, ask: Ask, budget: Budget) -> StoredDecoder:
    """A dictionary of a store, as the words by which workers find it."""
    job = job_of(store, id)
    sha256 = store.attributes(id)["sha256"]
    return StoredDecoder(
        store.hierarchy.address, id, sha256, job.n, job.run, ask.precision, budget.panel_bytes
    )


def count_whole(
    rows: StoredDecoder,
    cols: StoredDecoder | None,
    ask: Ask,
    budget: Budget,
    so_far: Partial,
    progress: Progress,
) -> Tally:
    """Find out everything that is asked about the pairs of one dictionary, or of two.

    Parameters
    ----------
    rows, cols : StoredDecoder
        Whose features they are; without `cols`, all pairs are within one dictionary.
    ask : Ask
        What is to be found out.
    budget : Budget
        In how much memory.
    so_far : Partial
        Where what is counted is kept meanwhile.
    progress : callable
        Told the pairs dealt with after each task.
    """
    plan = plan_triangle(rows.n) if cols is None else plan_rectangle(rows.n, cols.n)
    whole = Tally.empty(ask, range(rows.n), None if cols is None else range(cols.n))
    done = _go_on(whole, so_far, len(plan))
    progress(whole.covered)
    left = [number for number in range(len(plan)) if not done[number]]
    kept_at = time.monotonic()

    def add(result: tuple[int, Tally]) -> None:
        nonlocal kept_at
        number, part = result
        whole.absorb(part)
        done[number] = True
        progress(part.covered)
        if time.monotonic() - kept_at > SECONDS_BETWEEN_KEEPING:
            so_far.save({**whole.arrays(), _DONE: done})
            kept_at = time.monotonic()

    def task(position: int) -> tuple[object, ...]:
        number = left[position]
        later = position + budget.threads
        then = plan[left[later]] if budget.all_fit and later < len(left) else None
        return number, rows, cols, plan[number], ask, budget.held, then

    try:
        run(_numbered, map(task, range(len(left))), add, budget.threads)
    except BaseException:
        with suppress(OSError):  # the first error is the one to be told
            so_far.save({**whole.arrays(), _DONE: done})
        raise
    finally:
        forget()
    return whole


def _go_on(whole: Tally, so_far: Partial, tasks: int) -> NDArray[np.bool_]:
    """Take in what an interrupted run counted; returns which tasks it had finished."""
    found = so_far.load()
    done = np.zeros(tasks, np.bool_)
    if found is not None and found[_DONE].shape == done.shape:
        done |= found.pop(_DONE)
        whole.restore(found)
    return done


def _numbered(
    number: int,
    rows: StoredDecoder,
    cols: StoredDecoder | None,
    super_tile: SuperTile,
    ask: Ask,
    held: int,
    then: SuperTile | None,
) -> tuple[int, Tally]:
    """Count a super-tile and say which it was."""
    return number, count_stored(rows, cols, super_tile, ask, held, then)
