"""The verbs together, and how a failure ends: with one sentence on stderr and status 1."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import click

import geomsae
from geomsae.cli.compare import compare, neighbours
from geomsae.cli.convert import convert
from geomsae.cli.histogram import histogram, plan
from geomsae.cli.interrupts import INTERRUPTED, leaving_when_asked, was_interrupted
from geomsae.cli.look import ls, tails
from geomsae.cli.report import report
from geomsae.cli.study import demo, reproduce, study
from geomsae.cli.verify import verify
from geomsae.errors import GeomsaeError


class Verbs(click.Group):
    """A group of commands whose failures are sentences, not tracebacks."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **extra: Any) -> Any:
        """Run the command line; that of this process, if no words are given, heeds signals."""
        with leaving_when_asked() if args is None else nullcontext():
            return super().main(args, *others, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            sentence = _sentence(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs in the order of the work, not of the alphabet."""
        return list(self.commands)


def _sentence(error: BaseException) -> str | None:
    """What to tell a user of a failure; None where click knows, or nobody."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, click.exceptions.Exit | click.ClickException | BrokenPipeError):
        return None
    if was_interrupted():  # whatever a library made of it
        return INTERRUPTED
    if isinstance(error, GeomsaeError):
        return str(error)
    if isinstance(error, OSError):
        return _os_sentence(error)
    if isinstance(error, MemoryError):
        return (
            "this machine has not enough free memory: what was finished is kept, "
            "close something and run again"
        )
    return None


def _os_sentence(error: OSError) -> str:
    place = f" at {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"no space is left on the disk{place}: what was finished is kept, free some"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"permission is missing{place}: choose another place, or change its permissions"
    if error.errno == errno.EXDEV:
        return f"the store and the folder beside it are on different disks{place}: move the store"
    return f"{error.strerror or error}{place}"


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(geomsae.__version__, prog_name="geomsae")
def main() -> None:
    """Measure the geometry of sparse-autoencoder dictionaries, out of core.

    convert brings decoders into a store, histogram counts the cosine similarity of every pair of
    their features, tails and report show what came out. demo shows all of it in a minute.
    """


for _verb in (
    convert,
    ls,
    plan,
    histogram,
    tails,
    compare,
    neighbours,
    report,
    verify,
    study,
    reproduce,
    demo,
):
    main.add_command(_verb)
