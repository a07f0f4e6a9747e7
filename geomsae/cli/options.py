"""Options that several verbs share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import click

Command = Callable[..., Any]


def store_option(default: str = "store") -> Callable[[Command], Command]:
    """``--store``: where the store lies."""
    return click.option(
        "--store",
        "location",
        default=default,
        envvar="GEOMSAE_STORE" if default == "store" else None,
        show_default=True,
        show_envvar=True,
        metavar="PATH-or-URL",
        help="The store.",
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")


class _Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An amount of memory: 2GB, 512MiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Turn the words into bytes."""
        from dask.utils import parse_bytes

        try:
            return int(parse_bytes(value))
        except ValueError:
            self.fail(f"{value!r} is no amount of memory: say 2GB or 512MiB", param, ctx)


def memory_option(otherwise: str) -> Callable[[Command], Command]:
    """``--memory``: what a verb keeps to, all processes of a machine together."""
    return click.option(
        "--memory",
        type=_Bytes(),
        metavar="SIZE",
        help=f"Most memory to use, as 2GB; else {otherwise} of what is free.",
    )


def precision_option(meaning: str) -> Callable[[Command], Command]:
    """``--precision``: arithmetic of the products."""
    return click.option(
        "--precision",
        type=click.Choice(["float32", "float64", "fp16x3", "tf32"]),
        default="float32",
        show_default=True,
        help=meaning,
    )


def result_options(command: Command) -> Command:
    """Options of every verb that reads histograms: which of them, where a store has several."""
    for option in (
        precision_option("Those counted in this arithmetic."),
        click.option("--bins", default=2000, show_default=True, help="Those with so many bins."),
        click.option(
            "--threshold",
            default=0.1,
            show_default=True,
            help="Tails begin at this |cosine|, an edge of the bins.",
        ),
    ):
        command = option(command)
    return command


class Thresholds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Several cosines: 0.1,0.3."""

    name = "COSINES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Turn the words into numbers, in rising order."""
        try:
            return tuple(sorted({float(word) for word in str(value).split(",")}))
        except ValueError:
            self.fail(f"{value!r} is no list of cosines: say 0.1,0.3", param, ctx)


def ask_options(command: Command) -> Command:
    """Options that say what a pass over the pairs is asked: they become an `Ask`."""

    @click.option("--bins", default=2000, show_default=True, help="Equal bins on [-1, 1].")
    @precision_option("Arithmetic of the products; float64 is the reference to check with.")
    @click.option(
        "--degrees",
        type=Thresholds(),
        metavar="COSINES",
        help="Count the pairs of each feature with |cosine| beyond these; else 0.1,0.2,0.3,0.5.",
    )
    @click.option(
        "--neighbours", type=int, metavar="K", help="Nearest neighbours of each feature; else 1."
    )
    @click.option(
        "--pairs", type=int, metavar="K", help="Most similar and opposite pairs; else 1000."
    )
    @click.option("--counts-only", is_flag=True, help="The histogram, and nothing beside it.")
    @wraps(command)
    def with_ask(
        bins: int,
        precision: str,
        degrees: tuple[float, ...] | None,
        neighbours: int | None,
        pairs: int | None,
        counts_only: bool,
        **words: Any,
    ) -> Any:
        from geomsae.ask import Ask
        from geomsae.results import usual_ask

        if not counts_only:
            ask = usual_ask(bins, precision, degrees, neighbours, pairs)
        elif (degrees, neighbours, pairs) != (None, None, None):
            raise click.UsageError("--counts-only leaves --degrees, --neighbours and --pairs out")
        else:
            ask = Ask(bins, precision)
        return command(ask=ask, **words)

    return with_ask


def crew_options(command: Command) -> Command:
    """Options of every verb that counts pairs: on what, by whom, and in how much memory.

    They become ``by``: the keywords of those who compute.
    """

    @click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "gpu"]),
        default="auto",
        show_default=True,
        help="What multiplies; auto takes a GPU where there is one.",
    )
    @click.option(
        "--scheduler",
        metavar="ADDRESS-or-FILE",
        help="An existing Dask cluster; else that of DASK_SCHEDULER_ADDRESS, or this machine.",
    )
    @memory_option("half")
    @click.option(
        "--device-memory",
        type=_Bytes(),
        metavar="SIZE",
        help="Most memory of each GPU to use; else nine tenths of what is free.",
    )
    @wraps(command)
    def with_cluster(
        device: str,
        scheduler: str | None,
        memory: int | None,
        device_memory: int | None,
        **words: Any,
    ) -> Any:
        from geomsae.cli.cluster import connected, named_scheduler

        place = named_scheduler(scheduler)
        with connected(place) if place else nullcontext():
            by = {"device": device, "memory": memory, "device_memory": device_memory}
            return command(by=by, **words)

    return with_cluster


def wanted_options(command: Command) -> Command:
    """Options that select from a source, or say what it does not: they become a `Wanted`."""

    @click.option("--model", default="", metavar="NAME", help="Base model.")
    @click.option("--variant", default="", metavar="NAME", help="Training stage: pt, it, ...")
    @click.option("--site", default="", metavar="NAME", help="Place in the model: res, mlp, att.")
    @click.option("--layer", default="", metavar="LAYERS", help="12, or 0,5,10, or 0-25:5.")
    @click.option("--width", default="", metavar="LABEL", help="Published width: 16k.")
    @click.option(
        "--l0",
        default="",
        metavar="L0",
        help="canonical (closest to 100; the default), all, or labels: 82,141.",
    )
    @click.option("--tag", default="", metavar="NAME", help="What else tells it from others.")
    @click.option("--tensor", default="", metavar="KEY", help="Which tensor of a file.")
    @click.option(
        "--transpose/--no-transpose",
        default=None,
        help="Whether the features are the columns, where the file does not tell.",
    )
    @click.option("--revision", default="", metavar="REV", help="Branch, tag or hash on the Hub.")
    @click.option("--cache", is_flag=True, help="Keep whole files in the Hub's own cache.")
    @click.option("--update", is_flag=True, help="Take a newer revision beside an older one.")
    @click.option("--seed", type=click.IntRange(0), help="Seed of random:NxD; else 0.")
    @wraps(command)
    def with_wanted(**words: Any) -> Any:
        from geomsae.sources import Wanted

        names = Wanted.__dataclass_fields__
        wanted = Wanted(**{name: words.pop(name) for name in names})
        return command(wanted=wanted, **words)

    return with_wanted
