"""Where Neuronpedia shows a dictionary and each of its features."""

from __future__ import annotations

import re
from functools import cache

from geomsae.sources.releases import published

_SITE = "https://www.neuronpedia.org"

_FINAL = "/checkpoints/final.safetensors"
"""Where Llama Scope keeps a decoder in the folder of its dictionary."""


def neuronpedia_id(repo: str, path: str) -> str:
    """The name under which Neuronpedia shows a dictionary.

    Parameters
    ----------
    repo : str
        Repository on the Hub, ``owner/name``.
    path : str
        The decoder's file in it, or the folder of the file.

    Returns
    -------
    str
        Empty where none is known: none is made up.

    Notes
    -----
    Where two names are known for one file, the plain one is given, under which Neuronpedia shows
    the canonical dictionary of its layer. A name that says another L0 than the path belongs to
    another dictionary and is not believed: SAELens' list has two of those.

    Examples
    --------
    >>> place = "layer_12/width_16k/average_l0_82/params.npz"
    >>> neuronpedia_id("google/gemma-scope-2b-pt-res", place)
    'gemma-2-2b/12-gemmascope-res-16k'
    >>> neuronpedia_id("google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_999")
    ''
    """
    # A folder further up may hold other dictionaries as well, as the steps of a training do.
    for place in (path, path.rpartition("/")[0], path.removesuffix(_FINAL)):
        if found := _names().get((repo, place)):
            return found
    return ""


def neuronpedia_address(repo: str, path: str, feature: int) -> str:
    """The address of the page on which Neuronpedia shows a feature.

    Parameters
    ----------
    repo, path : str
        The dictionary, as `neuronpedia_id` takes it.
    feature : int
        Number of the feature, as published, from 0; -1 for none.

    Returns
    -------
    str
        Empty where Neuronpedia is not known to show the dictionary, or there is no feature.

    Examples
    --------
    >>> place = "layer_12/width_16k/average_l0_82/params.npz"
    >>> neuronpedia_address("google/gemma-scope-2b-pt-res", place, 7)
    'https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k/7'
    >>> neuronpedia_address("", "w.npy", 7)
    ''
    """
    name = neuronpedia_id(repo, path)
    return f"{_SITE}/{name}/{feature}" if name and feature >= 0 else ""


@cache
def _names() -> dict[tuple[str, str], str]:
    """Neuronpedia's name of each dictionary, by repository and path."""
    names: dict[tuple[str, str], str] = {}
    for row in published():
        where, name = (row.repo, row.path), row.neuronpedia_id
        if not name or _contradicts(name, row.path):
            continue
        if where not in names or len(name) < len(names[where]):
            names[where] = name
    return names


def _contradicts(name: str, path: str) -> bool:
    """Whether a name says another L0 than a path.

    Examples
    --------
    >>> _contradicts("gemma-2-9b/20-gemmascope-res-131k__l0-12", "layer_20/average_l0_114")
    True
    """
    said = re.search(r"__l0-(\d+)$", name)
    known = re.search(r"average_l0_(\d+)$", path)
    return bool(said and known and said[1] != known[1])
