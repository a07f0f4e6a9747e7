"""What a source gives: offers, which open into decoders, whose rows stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geomsae.dictionary import Dictionary
from geomsae.errors import SourceError
from geomsae.sources.orientation import COLUMNS, LINEAR, is_transposed
from geomsae.sources.tensor import FLOATS, Matrix

DECODER_KEYS = ("W_dec", "w_dec", "decoder.weight", "decoder_linear.weight", "W_D", "D")
"""Keys under which trainers publish a decoder, tried where none is named."""


class Decoder(Protocol):
    """A dictionary that can be read: what it is, how large, where from, and its rows."""

    @property
    def labels(self) -> Dictionary:
        """Which dictionary this is."""

    @property
    def shape(self) -> tuple[int, int]:
        """(features, dimensions of the model)."""

    @property
    def dtype(self) -> str:
        """Element type at the source."""

    @property
    def provenance(self) -> Mapping[str, str | int]:
        """Where every byte comes from."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should be told about how it is read."""

    @property
    def remote(self) -> bool:
        """Whether reading it again would cost more than keeping what was had of it."""

    def blocks(
        self, rows: int, first: int = 0, keep: Path | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the features from `first` on: arrays (at most rows, d_model), float32.

        What must be brought here before the first row may lie at `keep` for another run.
        """


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user says about a source, in the words of the command line.

    Each label selects where the source states it itself, and supplies it where the source does
    not. An empty word says nothing.
    """

    model: str = ""
    variant: str = ""
    site: str = ""
    layer: str = ""
    width: str = ""
    l0: str = ""
    tag: str = ""
    tensor: str = ""
    transpose: bool | None = None
    revision: str = ""
    cache: bool = False
    update: bool = False
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """One dictionary that a source has: its labels and size, before it is opened."""

    labels: Dictionary
    name: str
    """What the source calls it."""
    nbytes: int
    """Bytes of the file it lies in."""
    identity: Mapping[str, str | int]
    """What makes it the same as a decoder in a store, unread; empty where that is not enough."""
    open: Callable[[], Decoder]
    update: bool = False
    """Whether to have it beside what another revision had in its place."""


@dataclass(frozen=True)
class FileDecoder:
    """A decoder that lies in a file as one 2-D tensor.

    Parameters
    ----------
    labels : Dictionary
        Which dictionary it is.
    tensor : Matrix
        Where it lies.
    transposed : bool
        Whether its columns are the features.
    origin : mapping
        Where the file came from.
    notes : tuple of str
        What a user should be told.
    """

    labels: Dictionary
    tensor: Matrix
    transposed: bool
    origin: Mapping[str, str | int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(features, dimensions of the model)."""
        rows, columns = self.tensor.shape
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def dtype(self) -> str:
        """Element type in the file."""
        return self.tensor.dtype

    @property
    def provenance(self) -> Mapping[str, str | int]:
        """File, tensor, and whether it was transposed."""
        return {
            **self.origin,
            "tensor": self.tensor.key,
            "byte_range": self.tensor.span,
            "transposed": int(self.transposed),
        }

    @property
    def remote(self) -> bool:
        """Whether its file lies elsewhere."""
        return self.tensor.file.remote

    def blocks(
        self, rows: int, first: int = 0, keep: Path | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Stream the features from `first` on, `rows` at a time."""
        return self.tensor.rows(rows, transpose=self.transposed, first=first, keep=keep)


def choose_tensor(tensors: Sequence[Matrix], key: str) -> Matrix:
    """The decoder among the tensors of one file.

    Parameters
    ----------
    tensors : sequence of Matrix
        All tensors of the file, at least one.
    key : str
        The one to take; empty for the only matrix, or the one under a usual key.

    Raises
    ------
    SourceError
        If it is not there, has not two dimensions, is not of floats, or cannot be told.
    """
    path = tensors[0].file.name
    matrices = [t for t in tensors if len(t.shape) == 2 and t.dtype in FLOATS and 0 not in t.shape]
    held = ", ".join(t.key for t in matrices[:8]) + (", ..." if len(matrices) > 8 else "")
    if key:
        named = [t for t in tensors if t.key == key]
        if not named:
            raise SourceError(f"{path} has no tensor {key!r}; its matrices: {held or 'none'}")
        if named[0] not in matrices:
            shape = " x ".join(map(str, named[0].shape)) or "a single number"
            raise SourceError(
                f"{named[0].name} is {shape} of {named[0].dtype}, where a decoder is a matrix "
                f"of {', '.join(FLOATS)}; matrices in the file: {held or 'none'}"
            )
        return named[0]
    usual = [t for t in matrices if t.key in DECODER_KEYS]
    if len(usual) == 1:
        return usual[0]
    if len(matrices) == 1:
        return matrices[0]
    if not matrices:
        kinds = ", ".join(f"{t.key or 'array'} {t.shape} {t.dtype}" for t in tensors[:4])
        raise SourceError(f"{path} holds no matrix of {', '.join(FLOATS)}: only {kinds}")
    raise SourceError(f"{path} holds {len(matrices)} matrices: say which with --tensor: {held}")


def open_file(
    labels: Dictionary,
    tensors: Sequence[Matrix],
    wanted: Wanted,
    origin: Mapping[str, str | int],
    layout: Mapping[str, str],
    stated: Mapping[str, int],
) -> FileDecoder:
    """Open the decoder among the tensors of a file, the right way round.

    Parameters
    ----------
    labels : Dictionary
        Which dictionary it is.
    tensors : sequence of Matrix
        All tensors of the file.
    wanted : Wanted
        The key of the tensor and its orientation, where a user names them.
    origin : mapping
        Where the file comes from.
    layout : mapping of str to str
        Keys that its family gives to decoders, each with how the features lie.
    stated : mapping of str to int
        ``n_features`` and ``d_model``, as far as a file beside it says them.

    Raises
    ------
    SourceError
        See `choose_tensor` and `is_transposed`.
    """
    known = next((tensor.key for tensor in tensors if tensor.key in layout), "")
    layout = {**LINEAR, **layout}
    matrix = choose_tensor(tensors, wanted.tensor or known)
    if wanted.transpose is not None:
        return FileDecoder(labels, matrix, wanted.transpose, origin)
    transposed, fact = is_transposed(matrix, tensors, labels.width, stated)
    notes: tuple[str, ...] = ()
    if transposed is None and matrix.key in layout:
        transposed, fact = layout[matrix.key] == COLUMNS, "the rule of its key"
    if transposed is None:
        rows, columns = matrix.shape
        notes = (
            f"{matrix.name} does not say which way round it is: its {rows:,} rows are taken as "
            f"features of {columns:,} dimensions (--no-transpose confirms, --transpose turns it)",
        )
    return FileDecoder(labels, matrix, bool(transposed), {**origin, "orientation": fact}, notes)
