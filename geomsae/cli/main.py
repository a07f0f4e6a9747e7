"""The verbs together, and how a failure ends: with one sentence on stderr and status 1."""

from __future__ import annotations

import errno
from typing import Any

import click

import geomsae
from geomsae.cli.compare import compare, neighbours
from geomsae.cli.convert import convert
from geomsae.cli.histogram import histogram, plan
from geomsae.cli.look import ls, tails
from geomsae.cli.report import report
from geomsae.cli.study import demo, reproduce, study
from geomsae.cli.verify import verify
from geomsae.errors import GeomsaeError


class Verbs(click.Group):
    """A group of commands whose failures are sentences, not tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except GeomsaeError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(_os_sentence(error)) from error
        except MemoryError as error:
            raise click.ClickException(
                "this machine has not enough free memory: what was finished is kept, "
                "close something and run again"
            ) from error
        except KeyboardInterrupt as error:
            raise click.ClickException(
                "interrupted: what was finished is kept, run again to go on"
            ) from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs in the order of the work, not of the alphabet."""
        return list(self.commands)


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
