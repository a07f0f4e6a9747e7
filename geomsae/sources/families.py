"""The published families, as data: how a repository and its files are named, and what that says.

To add a family, add one entry to `FAMILIES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from geomsae.dictionary import EMBEDDING


@dataclass(frozen=True, slots=True)
class Family:
    """How one publisher lays out dictionaries.

    Parameters
    ----------
    name : str
        What it is called.
    repository : str
        Pattern of the repository's or folder's name, without owner. Its named groups feed
        `labels`.
    path : str
        Pattern of a decoder's path in it. Its named groups are labels; ``embedding`` stands for
        the layer before the first.
    tensor : str
        Key of the decoder.
    labels : mapping
        Labels that the repository's name states, as format strings over its groups.
    """

    name: str
    repository: str
    path: str
    tensor: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def repository_labels(self, repository: str) -> dict[str, str]:
        """What the name of a repository or folder says; nothing where it is not of the family."""
        match = re.fullmatch(self.repository, repository.rpartition("/")[2])
        if not match:
            return {}
        return {name: text.format(**match.groupdict()) for name, text in self.labels.items()}

    def path_labels(self, path: str) -> dict[str, str | int | float] | None:
        """What the path of a file says; None where it is not a decoder of the family."""
        match = re.fullmatch(self.path, path)
        if not match:
            return None
        said: dict[str, str | int | float] = {k: v for k, v in match.groupdict().items() if v}
        if said.pop("embedding", None):
            said["layer"] = EMBEDDING
        elif "layer" in said:
            said["layer"] = int(said["layer"])
        if "l0_label" in said:
            label = str(said["l0_label"])
            said["l0"] = float(label) if label.isdecimal() else math.nan
        return said


FAMILIES: tuple[Family, ...] = (
    Family(
        name="Gemma Scope",
        repository=r"gemma-scope-(?P<size>2b|9b|27b)-(?P<stage>pt|it)-(?P<site>res|mlp|att|transcoders)",
        path=(
            r"(?:layer_(?P<layer>\d+)|(?P<embedding>embedding))"
            r"/width_(?P<width>\w+)/average_l0_(?P<l0_label>\d+)/params\.npz"
        ),
        tensor="W_dec",
        labels={"model": "gemma-2-{size}", "variant": "{stage}", "site": "{site}"},
    ),
)
"""Every family that is read by its names. The first whose path pattern fits a file is taken."""
