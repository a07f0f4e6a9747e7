"""Which dictionary this is: the labels that every other part of geomsae speaks in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from geomsae.errors import SelectionError

EMBEDDING = -1
"""The layer of a dictionary that was trained on the embedding, before the first layer."""

UNKNOWN_LAYER = -1
"""How a layer that nobody knows is written where a column must hold an integer."""

RESULTS = "results"
"""The one name that no label may take: below it a dictionary keeps what was computed about it."""

LABELS: Mapping[str, str] = {
    "model": "base model, by its Hub name without owner and variant",
    "variant": "training stage of the model (pt, it, ...)",
    "site": "where in the model the dictionary reads (res, mlp, att, ...)",
    "layer": "layer of the model (-1: the embedding, or not known)",
    "width": "published width label",
    "l0": "mean number of active features per token (NaN: not known)",
    "l0_label": "published L0 label",
    "tag": "what else tells two dictionaries apart",
}
"""Every label of a dictionary, in the order of its id, with what it means."""

SIZES: Mapping[str, str] = {
    "n_features": "features in the dictionary, its rows",
    "d_model": "dimensions of a feature direction, its columns",
}
"""The two sizes of a decoder, known for every dictionary."""

CANONICAL_L0 = 100.0
"""The L0 that a canonical dictionary is closest to."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=-]*")


def label_part(text: str) -> str:
    """Turn any text into one that may stand between the slashes of an id.

    Examples
    --------
    >>> label_part("layers.3/mlp down")
    'layers.3_mlp_down'
    """
    part = re.sub(r"[^A-Za-z0-9._+@=-]+", "_", text).strip("._+@=-") or "unnamed"
    return f"{part}_" if part == RESULTS else part


def canonical_distance(l0: float) -> tuple[float, float]:
    """Sort key of the canonical rule: closest to 100 first, and of two as close, the lower.

    Examples
    --------
    >>> min([22.0, 82.0, 118.0], key=canonical_distance)
    82.0
    """
    return abs(l0 - CANONICAL_L0), l0


@dataclass(frozen=True, slots=True)
class Dictionary:
    """The labels of one dictionary. What is not known is left out, never invented.

    Parameters
    ----------
    model : str
        Base model, by its Hub name without owner and without ``-pt`` or ``-it``.
    variant, site : str
        Training stage (``pt``, ``it``) and place in the model (``res``, ``mlp``, ``att``).
    layer : int or None
        Layer of the model; -1 for the embedding, None where it is not known.
    width : str
        The published label, ``16k``.
    l0 : float
        Mean number of active features per token; NaN where only a label is known.
    l0_label : str
        The published label, ``82`` or ``small``.
    tag : str
        What else tells two dictionaries apart (``affine``, ``seed_1``, a trainer).

    Raises
    ------
    SelectionError
        If the model is missing, or a label cannot stand in an id.

    Examples
    --------
    >>> Dictionary("gemma-2-2b", "pt", "res", 12, "16k", 82, "82").id
    'gemma-2-2b/pt/res/layer_12/width_16k/l0_82'
    >>> Dictionary("minilm", "base", layer=0).id
    'minilm/base/layer_0'
    """

    model: str
    variant: str = ""
    site: str = ""
    layer: int | None = None
    width: str = ""
    l0: float = math.nan
    l0_label: str = ""
    tag: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise SelectionError("a dictionary needs the name of its model: give --model NAME")
        for name in ("model", "variant", "site", "width", "l0_label", "tag"):
            text = getattr(self, name)
            if text and not _PART.fullmatch(text):
                raise SelectionError(
                    f"{name} {text!r} cannot stand in an id: use letters, digits and . _ + @ = -, "
                    "beginning with a letter or a digit"
                )
            if text == RESULTS:
                raise SelectionError(f"{name} cannot be {RESULTS!r}: results are kept under it")
        if self.layer is not None and self.layer < EMBEDDING:
            raise SelectionError(f"layer {self.layer} does not exist: layers count from 0")

    @property
    def id(self) -> str:
        """The labels as a path, from model to tag, with what is not known left out."""
        layer = {None: "", EMBEDDING: "embedding"}.get(self.layer, f"layer_{self.layer}")
        parts = (
            self.model,
            self.variant,
            self.site,
            layer,
            f"width_{self.width}" if self.width else "",
            f"l0_{self.l0_label}" if self.l0_label else "",
            self.tag,
        )
        return "/".join(part for part in parts if part)

    def coordinates(self) -> dict[str, Any]:
        """The labels as plain values, one for each name in `LABELS`, ready for a column."""
        values = asdict(self)
        values["layer"] = UNKNOWN_LAYER if self.layer is None else self.layer
        return values

    def to_json(self) -> dict[str, Any]:
        """The labels as a JSON object, without those that are not known."""
        known = {k: v for k, v in asdict(self).items() if v not in ("", None)}
        if math.isnan(self.l0):
            del known["l0"]
        return known

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Dictionary:
        """Read what `to_json` wrote."""
        names = {field.name for field in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in names})
