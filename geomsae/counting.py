"""One stored dictionary, or the pairs of two, counted from where an interrupted run got to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.errors import DeviceMemoryError
from geomsae.pairs.budget import Budget
from geomsae.pairs.plan import SuperTile
from geomsae.pairs.schedule import run
from geomsae.pairs.stored import StoredDecoder, count_stored, forget
from geomsae.pairs.tally import Tally
from geomsae.store.partial import Partial
from geomsae.work import Means, Work

SECONDS_BETWEEN_KEEPING = 30.0
"""How often what is counted so far of a dictionary is kept: so much work a kill may cost."""

Progress = Callable[[int], object]
"""Told how many pairs were just dealt with."""

Say = Callable[[str], object]
"""Told what a user should know, a sentence at a time."""

_DONE = "done"


def count_whole(
    work: Work, means: Means, budget: Budget, so_far: Partial, progress: Progress, say: Say
) -> Tally:
    """Find out everything that is asked about the pairs of one dictionary, or of two.

    Parameters
    ----------
    work : Work
        What is to be counted.
    means : Means
        By what.
    budget : Budget
        In how much memory. If a GPU has less than that after all, it goes on in half of it.
    so_far : Partial
        Where what is counted is kept meanwhile.
    progress : callable
        Told the pairs dealt with after each task.
    say : callable
        Told if there is less memory than was thought.
    """
    plan = work.plan(budget)
    whole = Tally.empty(work.ask, *(range(job.n) for job in work.jobs))
    done = _go_on(whole, so_far, len(plan))
    progress(whole.covered)
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

    try:
        _count_left(work, budget, plan, done, add, means, say)
    except BaseException:
        with suppress(OSError):  # the first error is the one to be told
            so_far.save({**whole.arrays(), _DONE: done})
        raise
    finally:
        forget(budget.device)
    return whole


def _count_left(
    work: Work,
    budget: Budget,
    plan: list[SuperTile],
    done: NDArray[np.bool_],
    add: Callable[[tuple[int, Tally]], None],
    means: Means,
    say: Say,
) -> None:
    """Count the super-tiles that are not done, in less and less memory if it has to be."""
    told = False
    while True:
        rows, cols = work.decoders(budget)
        left = np.flatnonzero(~done).tolist()
        tasks = _tasks(left, plan, rows, cols, work, budget)
        try:
            return run(_numbered, tasks, add, budget.threads, budget.device)
        except DeviceMemoryError as error:
            budget = means.smaller(work, budget)
            forget(budget.device)
            if not told:
                say(f"{error}: going on with less of it")
            told = True


def _go_on(whole: Tally, so_far: Partial, tasks: int) -> NDArray[np.bool_]:
    """Take in what an interrupted run counted; returns which tasks it had finished."""
    found = so_far.load()
    done = np.zeros(tasks, np.bool_)
    if found is not None and found[_DONE].shape == done.shape:
        done |= found.pop(_DONE)
        whole.restore(found)
    return done


def _tasks(
    left: list[int],
    plan: list[SuperTile],
    rows: StoredDecoder,
    cols: StoredDecoder | None,
    work: Work,
    budget: Budget,
) -> Iterator[tuple[Any, ...]]:
    """What `_numbered` is given for each super-tile that is left."""
    for position, number in enumerate(left):
        later = position + budget.threads
        then = plan[left[later]] if budget.all_fit and later < len(left) else None
        yield number, rows, cols, plan[number], work.ask, budget.held, then


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
