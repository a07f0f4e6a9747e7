"""What it takes to read a family of published dictionaries by the names of its files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geomsae.dictionary import EMBEDDING, label_part
from geomsae.errors import SourceError
from geomsae.sources.orientation import COLUMNS, ROWS

_SITES = {
    "resid_post": "res",
    "resid_pre": "resid_pre",
    "resid_mid": "resid_mid",
    "mlp_out": "mlp",
    "z": "att",
    "attn_out": "attn_out",
}
"""Where a hook of TransformerLens reads, in the words of the labels. The residual stream before a
layer is not that after it, nor are concatenated heads what a layer's attention writes."""

_HOOK = re.compile(
    r"blocks\.(?P<layer>\d{1,4})\.(?:attn\.|mlp\.)?hook_(?P<site>\w+?)(?:\.hook_sae\w*)?"
)
_MODULE = re.compile(
    r"(?:\w+\.)*?(?:layers|h|blocks)\.(?P<layer>\d{1,4})(?:\.(?P<site>[\w.]+))?|(?P<first>embed\w*|wte)"
)


@dataclass(frozen=True, slots=True)
class Family:
    """How one publisher lays out dictionaries.

    Named groups of `repository` and `path` are what their names say, as is what `stated` reads from
    a file beside the decoder. A group named as a label is that label. Beside labels there are the
    groups ``hook`` (the name of a place in the model, which gives layer and site), ``embedding``
    (the layer before the first), and any that begins with ``tag``: they are joined into the tag.

    Parameters
    ----------
    name : str
        What it is called.
    repository : str
        Pattern of the repository's or folder's name, without owner; empty for any.
    path : str
        Pattern of a decoder's path in it.
    decoder : mapping of str to str
        Keys that the decoder may have, each with how its features lie: ``rows`` or ``columns``.
    labels : mapping of str to str
        Labels as format strings over the groups.
    words : mapping
        For a group, what its words become.
    config : str
        Path of the file beside the decoder that says more, as a format string over the groups
        and ``folder``; JSON.
    stated : mapping of str to str
        Groups that the file says, by where: keys joined by dots, several places by commas. Also
        ``n_features`` and ``d_model``, which the decoder must then have.
    by_path : bool
        Whether its paths are unlike any others, so that it is known without its repository's name.
    refused : str
        Why its decoders are no dictionaries that can be compared; empty if they are.
    """

    name: str
    repository: str
    path: str
    decoder: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    config: str = ""
    stated: Mapping[str, str] = field(default_factory=dict)
    by_path: bool = False
    refused: str = ""

    def __post_init__(self) -> None:
        if not set(self.decoder.values()) <= {ROWS, COLUMNS}:
            raise ValueError(f"{self.name}: features lie along {ROWS!r} or {COLUMNS!r}")

    def is_repository(self, name: str) -> bool:
        """Whether a repository or folder is named as this family's are."""
        last = name.rstrip("/").rpartition("/")[2]
        return bool(self.repository and re.fullmatch(self.repository, last))

    def groups(self, repository: str, path: str) -> dict[str, str] | None:
        """What the names say; None where the path is not of this family."""
        match = re.fullmatch(self.path, path)
        if not match:
            return None
        named = re.fullmatch(self.repository, repository.rstrip("/").rpartition("/")[2])
        said = {**(named.groupdict() if named else {}), **match.groupdict()}
        return {name: text for name, text in said.items() if text is not None}

    def config_path(self, path: str, groups: Mapping[str, str]) -> str:
        """Where the file lies that says more about the decoder at `path`; empty if nowhere."""
        if not self.config:
            return ""
        folder = path.rpartition("/")[0]
        return self.config.format(**groups, folder=folder).removeprefix("/")

    def read_config(self, text: str, name: str) -> dict[str, str]:
        """What the file beside a decoder says.

        Raises
        ------
        SourceError
            If it is not JSON.
        """
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{name} is not JSON: {error}") from error
        found = {group: _look_up(config, where.split(",")) for group, where in self.stated.items()}
        return {group: str(value) for group, value in found.items() if value not in (None, "")}

    def labels_of(self, groups: Mapping[str, str]) -> dict[str, Any]:
        """The labels that groups amount to, for those that are known."""
        said = {
            name: self.words.get(name, {}).get(text, text) for name, text in groups.items() if text
        }
        labels: dict[str, Any] = {}
        if "hook" in said:
            labels.update(_place(said["hook"]))
        labels.update({name: said[name] for name in _PLAIN if name in said})
        for name, form in self.labels.items():
            if set(re.findall(r"{(\w+)}", form)) <= set(said):
                labels[name] = form.format(**said)
        tags = [said[name].strip("_/.-") for name in said if name.startswith("tag")]
        if any(tags):
            hook = said.get("hook", "")
            tags = [tag.removeprefix(hook).strip("_/.-") if hook else tag for tag in tags]
            labels["tag"] = "_".join(label_part(tag) for tag in tags if tag)
        if "model" in labels:
            model, _, stage = labels["model"].rpartition("/")[2].rpartition("-")
            if stage in ("pt", "it") and model:
                labels["variant"] = labels.get("variant", stage)
            else:
                model = f"{model}-{stage}" if model else stage
            labels["model"] = model
        if "embedding" in said:
            labels["layer"] = EMBEDDING
        if "layer" in labels:
            labels["layer"] = int(labels["layer"])
        if "l0_label" in labels:
            number = re.fullmatch(r"\d+(\.\d+)?", labels["l0_label"])
            labels["l0"] = float(number[0]) if number else math.nan
        return {name: value for name, value in labels.items() if value != ""}


_PLAIN = ("model", "variant", "site", "layer", "width", "l0_label")


def _look_up(config: Any, places: list[str]) -> Any:
    """The first of several places of a config that holds something."""
    for place in places:
        value = config
        for key in place.strip().split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value not in (None, "") and not isinstance(value, dict | list):
            return value
    return None


def _place(hook: str) -> dict[str, str | int]:
    """Layer and site that the name of a hook or a module stands for.

    Examples
    --------
    >>> _place("blocks.8.hook_resid_pre"), _place("embed_tokens")
    ({'layer': '8', 'site': 'resid_pre'}, {'layer': -1, 'site': 'res'})
    """
    if match := re.fullmatch(_HOOK, hook):
        return {"layer": match["layer"], "site": _SITES.get(match["site"], match["site"])}
    if match := re.fullmatch(_MODULE, hook):
        if match["first"]:
            return {"layer": EMBEDDING, "site": "res"}
        return {"layer": match["layer"], "site": label_part(match["site"] or "res")}
    return {}
