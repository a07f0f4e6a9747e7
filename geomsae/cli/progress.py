"""Progress on stderr: how much of a known total is done, how fast, and how long it will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Amount(ProgressColumn):
    """Done of total, and the rate, in the unit of the task."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        total = task.total or 0
        scale, suffix = pick_unit_and_suffix(int(total) or 1, ["", "k", "M", "G", "T", "P"], 1000)
        done = f"{task.completed / scale:,.1f}/{total / scale:,.1f} {suffix}{unit}"
        rate = f", {task.speed / scale:,.2f} {suffix}{unit}/s" if task.speed else ""
        return Text(done + rate)


class Meter:
    """What a running verb tells: amounts done, what it is at, and lines to remember."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: float) -> None:
        """Say that so much more is done."""
        self._progress.advance(self._task, amount)

    def at(self, what: str) -> None:
        """Say what is being worked on."""
        self._progress.update(self._task, description=what)

    def say(self, line: str) -> None:
        """Leave a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def meter(total: int, unit: str) -> Iterator[Meter]:
    """Show a bar while something with a known total runs.

    Parameters
    ----------
    total : int
        All that is to be done.
    unit : str
        What is counted: ``pairs``, ``B``.
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Amount(),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        refresh_per_second=4,
    )
    with progress:
        yield Meter(progress, progress.add_task("", total=total, unit=unit))


def say(line: str) -> None:
    """Print a line on stderr."""
    click.echo(line, err=True)
