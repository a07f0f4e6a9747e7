"""Which axis of a stored matrix holds the features, decided from facts.

The key of a tensor does not settle it: ``W_dec`` is (feature, d_model) in most families and the
reverse in one, and a linear layer's ``decoder.weight`` is always the reverse. What settles it is a
length that only one axis has: that of a bias in the same file, or that of the published width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from geomsae.errors import SourceError
from geomsae.sources.tensor import Matrix

ROWS, COLUMNS = "rows", "columns"
"""What features are, in a matrix as it is stored."""

LINEAR = {"decoder.weight": COLUMNS, "decoder_linear.weight": COLUMNS}
"""The weights of PyTorch's linear layers, whose rows are their outputs."""

PER_FEATURE = (
    "b_enc",
    "encoder.bias",
    "encoder_linear.bias",
    "threshold",
    "log_threshold",
    "log_jumprelu_threshold",
)
"""Vectors beside a decoder that have one element for each feature."""

PER_DIMENSION = ("b_dec", "decoder.bias", "decoder_linear.bias", "decoder_bias", "pre_bias")
"""Vectors beside a decoder that have one element for each dimension of the model."""


def is_width(n: int, label: str) -> bool:
    """Whether a dictionary of `n` features may carry the published width `label`.

    Labels cut off rather than round, some after dividing by 1,000 and some by 1,024.

    Examples
    --------
    >>> is_width(16384, "16k"), is_width(65536, "65k"), is_width(1048576, "1m")
    (True, True, True)
    >>> is_width(2304, "16k")
    False
    """
    match = re.fullmatch(r"(\d+)([km]?)", label.lower())
    if not match:
        return False
    power = {"": 0, "k": 1, "m": 2}[match[2]]
    return int(match[1]) in (n // 1000**power, n // 1024**power)


def is_transposed(
    matrix: Matrix, beside: Iterable[Matrix], width: str, stated: Mapping[str, int]
) -> tuple[bool | None, str]:
    """Decide whether the features of `matrix` are its columns.

    Parameters
    ----------
    matrix : Matrix
        Two-dimensional.
    beside : iterable of Matrix
        The other tensors of the same file.
    width : str
        The published width label; empty where there is none.
    stated : mapping of str to int
        ``n_features`` and ``d_model``, as far as a file beside it says them.

    Returns
    -------
    bool or None, str
        None where nothing decides, and the fact that decided.

    Raises
    ------
    SourceError
        If two facts contradict each other, or the matrix has not the size that is stated.
    """
    rows, columns = matrix.shape
    for name, size in stated.items():
        if size not in (rows, columns):
            raise SourceError(
                f"{matrix.name} is {rows:,} x {columns:,}, and the file beside it says that "
                f"{name} is {size:,}: one of them is not what it claims to be"
            )
    facts: dict[str, bool] = {}
    if rows != columns:
        for vector in beside:
            if len(vector.shape) != 1 or vector.shape[0] not in (rows, columns):
                continue
            along_rows = vector.shape[0] == rows
            if vector.key in PER_FEATURE:
                facts[f"{vector.key} has {vector.shape[0]} elements"] = not along_rows
            elif vector.key in PER_DIMENSION:
                facts[f"{vector.key} has {vector.shape[0]} elements"] = along_rows
        for name, size in stated.items():
            facts[f"{name} is stated to be {size}"] = (size == columns) == (name == "n_features")
        if is_width(rows, width) != is_width(columns, width):
            facts[f"its width is {width}"] = is_width(columns, width)
    if len(set(facts.values())) > 1:
        raise SourceError(
            f"{matrix.name} contradicts itself ({'; '.join(facts)}): "
            "say --transpose or --no-transpose"
        )
    return (next(iter(facts.values())), next(iter(facts))) if facts else (None, "nothing decides")
