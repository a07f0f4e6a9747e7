"""Tables on stdout: aligned text for people, one JSON array of objects for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import pandas as pd


def print_table(table: pd.DataFrame, *, as_json: bool, columns: list[str] | None = None) -> None:
    """Print a table.

    Parameters
    ----------
    table : DataFrame
        Its index is the id of each row.
    as_json : bool
        All columns as JSON, instead of text.
    columns : list of str, optional
        Columns of the text.
    """
    whole = table.rename_axis("id").reset_index()
    if as_json:
        known = whole.astype(object).where(whole.notna(), None)
        click.echo(json.dumps(known.to_dict("records"), indent=1, default=lambda v: v.item()))
        return
    shown = whole if columns is None else whole[["id", *columns]]
    formats = {"float": lambda x: "" if x != x else f"{x:.4g}", "int": lambda x: f"{x:,}"}
    text = shown.copy().astype(object)
    for name in shown.columns:
        kind = {"f": "float", "i": "int"}.get(shown[name].dtype.kind)
        if kind:
            text[name] = [formats[kind](value) for value in shown[name]]
    if len(text):
        click.echo(text.to_string(index=False))
