"""The store as its users see it: open, look at the catalogue, select."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geomsae.ask import Ask
from geomsae.bins import DEFAULT_BINS, check_bins
from geomsae.dictionary import LABELS, SIZES, Dictionary
from geomsae.errors import SelectionError
from geomsae.labels import DIMENSION
from geomsae.sources import Decoder, Wanted
from geomsae.sources.selection import refuse, select
from geomsae.store.decoders import read_decoder, read_norms, write_decoder
from geomsae.store.features import asked_before, read_features, write_features
from geomsae.store.guard import finished, finished_decoders
from geomsae.store.hierarchy import Hierarchy
from geomsae.store.histograms import read_histograms, write_histogram
from geomsae.store.layout import histogram_path
from geomsae.store.locks import OnWait, in_silence

ORIGIN = ("source_dtype", "repo", "revision", "path", "tensor", "sha256")
"""Columns of the catalogue that say where a decoder comes from."""


def open_store(location: str | Path = "store", *, create: bool = False) -> Store:
    """Open a store of decoders and of what was computed about them.

    Parameters
    ----------
    location : str or Path
        A local path or an fsspec URL.
    create : bool
        Take a missing store for an empty one, which the first decoder makes.

    Returns
    -------
    Store

    Raises
    ------
    StoreError
        If there is no store, or something that is not one, or one of a later format.

    Examples
    --------
    >>> import geomsae, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> store = geomsae.open_store(folder)
    >>> [outcome.id for outcome in geomsae.convert("random:64x16", store)]
    ['random/gaussian/64x16_seed_0']
    >>> store.decoder("random/gaussian/64x16_seed_0").sizes
    Frozen({'feature': 64, 'd_model': 16})
    """
    return Store(Hierarchy(location, create=create))


class Store:
    """Decoders and results in one Zarr hierarchy; made by `open_store`.

    What it tells is what was there when it was first asked; `refresh` looks again.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self._adding = Lock()

    @property
    def location(self) -> str:
        """The path or URL it was opened at."""
        return self.hierarchy.location

    @cached_property
    def decoders(self) -> dict[str, dict[str, Any]]:
        """Attributes of every decoder in the store, by id."""
        return _in_reading_order(finished_decoders(self.hierarchy))

    def refresh(self) -> Store:
        """Forget what is known of the store, so that it is read again; returns itself."""
        self.__dict__.pop("decoders", None)
        return self

    def catalog(self) -> pd.DataFrame:
        """One row per dictionary: its labels, sizes, origin, and how many histograms it has.

        Returns
        -------
        DataFrame
            Indexed by id.
        """
        rows = []
        for id, attributes in self.decoders.items():
            row = Dictionary.from_json(attributes).coordinates()
            row.update({name: attributes[name] for name in SIZES})
            row.update({name: attributes.get(name, "") for name in ORIGIN})
            found = self.hierarchy.complete("histogram", f"{id}/results")
            row["histograms"] = sum(1 for _ in found)
            rows.append(row)
        columns = [*LABELS, *SIZES, *ORIGIN, "histograms"]
        return pd.DataFrame(
            rows, columns=columns, index=pd.Index(list(self.decoders), name="dictionary")
        )

    def select(self, wanted: Wanted) -> list[str]:
        """Ids of the dictionaries whose labels are wanted, in the order of the catalogue.

        Parameters
        ----------
        wanted : Wanted
            Labels; every L0 is meant where none is named.

        Raises
        ------
        SelectionError
            If a label is wanted that none of them has, or no one has all of them.
        """
        refuse(
            f"the store {self.location}",
            wanted,
            "tensor",
            "transpose",
            "revision",
            "cache",
            "update",
            "seed",
        )
        entries = [_Entry(Dictionary.from_json(known)) for known in self.decoders.values()]
        return [e.labels.id for e in select(entries, replace(wanted, l0=wanted.l0 or "all"))]

    def attributes(self, id: str) -> dict[str, Any]:
        """What is recorded about one decoder.

        Raises
        ------
        SelectionError
            If the store has no such dictionary; the sentence names the nearest.
        """
        if id not in self.decoders:
            near = difflib.get_close_matches(id, self.decoders, n=1, cutoff=0.0)
            hint = f"; the nearest is {near[0]}" if near else ": it is empty"
            raise SelectionError(f"the store {self.location} has no dictionary {id!r}{hint}")
        return self.decoders[id]

    def decoder(self, id: str) -> xr.DataArray:
        """One decoder as published: dims (feature, d_model), float32, Dask-backed, not yet read.

        Raises
        ------
        SelectionError
            If the store has no such dictionary.
        """
        return read_decoder(self.hierarchy, id, self.attributes(id))

    def norms(self, id: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Euclidean norms of a decoder's rows, shape (feature,), float64."""
        return read_norms(self.hierarchy, id, self.attributes(id))

    def histograms(self, bins: int = DEFAULT_BINS, precision: str = "float32") -> xr.Dataset:
        """Every histogram in the store that has these bins and this precision.

        Parameters
        ----------
        bins : int
            Number of equal bins on [-1, 1].
        precision : str
            Arithmetic of the products, ``float32`` or ``float64``.

        Returns
        -------
        Dataset, dims (dictionary, cosine)
            ``count`` int64, ``n_pairs``, ``n_excluded``, and every label as a coordinate that
            ``sel`` takes scalars, lists and slices of. Empty where nothing was computed.
        """
        return read_histograms(self.hierarchy, self.decoders.items(), check_bins(bins), precision)

    def features(self, id: str, bins: int = DEFAULT_BINS, precision: str = "float32") -> xr.Dataset:
        """What is known about each feature of a dictionary.

        Parameters
        ----------
        id : str
            The dictionary.
        bins, precision : int, str
            Of the pass over the pairs that told.

        Returns
        -------
        Dataset, dims (feature, threshold, rank)
            As far as they were asked for, ``degree`` (feature, threshold), the pairs of each
            feature in the tails; ``nearest`` (feature, rank) and ``opposite`` (feature), the
            numbers of its nearest neighbours and of the most opposite feature, -1 where there is
            none; ``nearest_cosine`` and ``opposite_cosine``. ``norm`` (feature) and the labels of
            the dictionary are coordinates. Rows are numbered as published, from 0.

        Raises
        ------
        SelectionError
            If the store has no such dictionary.
        StoreError
            If nothing is known, or it is not what was written.
        """
        found = read_features(self.hierarchy, self._known(id), bins, precision, "feature")
        norm = ("feature", self.norms(id), {"long_name": "Euclidean norm of each decoder row"})
        return found.assign_coords(norm=norm, **self._coordinates(id))

    def degrees(self, id: str, threshold: float, bins: int, precision: str) -> xr.Dataset | None:
        """The degrees of the features of a dictionary at one threshold, and nothing else of them.

        Returns
        -------
        Dataset or None
            ``degree`` (feature, threshold) with ``norm`` (feature); None if none were counted.
        """
        asked = asked_before(self.hierarchy, self._known(id), bins, precision)
        if asked is None or threshold not in asked.thresholds:
            return None
        found = read_features(self.hierarchy, id, bins, precision, "feature", "threshold")
        degree = found[["degree"]].sel(threshold=[threshold])
        return degree.assign_coords(norm=("feature", self.norms(id)))

    def pairs(self, id: str, bins: int = DEFAULT_BINS, precision: str = "float32") -> xr.Dataset:
        """The most similar and the most opposite pairs of features of a dictionary.

        Parameters
        ----------
        id : str
            The dictionary.
        bins, precision : int, str
            Of the pass over the pairs that told.

        Returns
        -------
        Dataset, dims (pair, member)
            ``top_similar`` and ``top_opposite`` (pair, member), the numbers of the two features,
            and ``top_similar_cosine`` and ``top_opposite_cosine`` (pair), the most extreme first;
            -1 and NaN where there are no more.

        Raises
        ------
        SelectionError
            If the store has no such dictionary.
        StoreError
            If nothing is known, or it is not what was written.
        """
        found = read_features(self.hierarchy, self._known(id), bins, precision, "pair")
        return found.assign_coords(self._coordinates(id))

    def _known(self, id: str) -> str:
        self.attributes(id)
        return id

    def _coordinates(self, id: str) -> dict[str, Any]:
        labels = Dictionary.from_json(self.attributes(id)).coordinates()
        return {DIMENSION: id, **labels}

    def asked_before(self, id: str, bins: int, precision: str) -> Ask | None:
        """What the pass was asked that told about the features of a dictionary, if one did."""
        return asked_before(self.hierarchy, id, bins, precision)

    def has_histogram(self, id: str, bins: int, precision: str) -> bool:
        """Whether a finished histogram of this dictionary is there."""
        return finished(self.hierarchy, histogram_path(id, bins, precision)) is not None

    def add_decoder(
        self,
        decoder: Decoder,
        progress: Callable[[float], object],
        on_wait: OnWait = in_silence,
    ) -> None:
        """Write a decoder under its id; see `geomsae.convert`, which sees to it that it is free."""
        attributes = write_decoder(self.hierarchy, decoder, progress, on_wait)
        with self._adding:
            known = {**self.decoders, decoder.labels.id: attributes}
            self.__dict__["decoders"] = _in_reading_order(known.items())

    def add_histogram(self, id: str, dataset: xr.Dataset, made: dict[str, str]) -> None:
        """Write the histogram of a dictionary, with how it was made."""
        write_histogram(self.hierarchy, id, dataset, made)

    def add_features(self, id: str, ask: Ask, dataset: xr.Dataset, made: dict[str, str]) -> None:
        """Write what is known about the features of a dictionary, in the place of what was."""
        write_features(self.hierarchy, id, ask, dataset, made)

    def __repr__(self) -> str:
        table = self.catalog()
        lines = [f"<geomsae.Store {self.location!r}: {_dictionaries(len(table))}>"]
        for (model, variant), group in table.groupby(["model", "variant"], sort=False):
            layers = sorted(set(group["layer"]) - {-1})
            span = f", layers {layers[0]} to {layers[-1]}" if layers else ""
            widths = ", ".join(f"{n:,}" for n in sorted(set(group["n_features"])))
            name = " ".join(filter(None, (str(model), str(variant))))
            counted = int((group["histograms"] > 0).sum())
            lines.append(
                f"  {name}: {_dictionaries(len(group))}{span}, {widths} features, "
                f"{counted} with histograms"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What can be selected by its labels."""

    labels: Dictionary


def _dictionaries(n: int) -> str:
    return f"{n:,} {'dictionary' if n == 1 else 'dictionaries'}"


def _in_reading_order(found: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Layers, widths and L0 in numeric order, whatever their ids look like as text."""

    def key(entry: tuple[str, dict[str, Any]]) -> tuple[Any, ...]:
        id, known = entry
        names = [known.get(name, "") for name in ("model", "variant", "site")]
        return *names, known.get("layer", -1), known["n_features"], known.get("l0", math.inf), id

    return dict(sorted(found, key=key))
