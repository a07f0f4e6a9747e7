"""SAELens' names of dictionaries, ``release/sae_id``: which file of which repository each means."""

from __future__ import annotations

import csv
import difflib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from geomsae.errors import SourceError


class Published(NamedTuple):
    """One dictionary that SAELens and Neuronpedia have names for; what is not known is empty."""

    repo: str
    path: str
    saelens_release: str
    saelens_id: str
    neuronpedia_id: str


def find_release(name: str) -> tuple[str, str] | None:
    """The repository and the path that a name of SAELens stands for.

    Parameters
    ----------
    name : str
        ``release/sae_id``.

    Returns
    -------
    tuple of str or None
        Repository, and path of the decoder's file or folder in it; None if there is no such
        release.

    Raises
    ------
    SourceError
        If the release is known and has no such dictionary; the sentence names the nearest.

    Examples
    --------
    >>> find_release("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82")
    ('google/gemma-scope-2b-pt-res', 'layer_12/width_16k/average_l0_82')
    >>> find_release("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical")
    ('google/gemma-scope-2b-pt-res', 'layer_12/width_16k/average_l0_82')
    """
    release, _, sae_id = name.partition("/")
    if release not in _table() or not sae_id:
        return None
    known = _table()[release]
    if sae_id in known:
        return known[sae_id]
    # Where all ids are the ends of their paths, so are those that the table does not have.
    repositories = {repo for repo, _ in known.values()}
    starts = {path.removesuffix(id) for id, (_, path) in known.items() if path.endswith(id)}
    if len(repositories) == len(starts) == 1 and all(p.endswith(i) for i, (_, p) in known.items()):
        return repositories.pop(), starts.pop() + sae_id
    near = difflib.get_close_matches(sae_id, known, n=1, cutoff=0.0)[0]
    raise SourceError(f"the release {release} has no {sae_id}; the nearest is {near}")


def nearest_repository(name: str) -> str:
    """The repository with a name most like this one; empty if none is alike."""
    known = {repo for ids in _table().values() for repo, _ in ids.values()}
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), "")


@cache
def published() -> tuple[Published, ...]:
    """Every dictionary of the table, in its order; one file may come under several names."""
    text = files("geomsae.sources").joinpath("neuronpedia_ids.csv").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in csv.DictReader(text.splitlines()))


@cache
def _table() -> dict[str, dict[str, tuple[str, str]]]:
    """Repository and path, by release and id."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for row in published():
        found.setdefault(row.saelens_release, {})[row.saelens_id] = (row.repo, row.path)
    return found
