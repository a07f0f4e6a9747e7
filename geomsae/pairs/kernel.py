"""The kernels: what makes panels and counts tiles, for each kind of device one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geomsae.ask import Ask
from geomsae.errors import DeviceError
from geomsae.pairs import cpu
from geomsae.pairs.tally import Tally

TENSOR_CORES = ("fp16x3", "tf32")
"""Precisions that a processor does not have."""


class TileRows(Protocol):
    """The normalised rows of one tile, wherever they lie: what the laws need to know of them."""

    @property
    def first(self) -> int:
        """Number of the first row."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def n_directed(self) -> int:
        """How many have a direction."""

    @property
    def total(self) -> NDArray[np.float64]:
        """Their sum, shape (d_model,)."""

    @property
    def squares(self) -> float:
        """The sum of their squared norms."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""


class Counter(Protocol):
    """Takes tiles into a tally, which is right once the counting is over."""

    @property
    def sums(self) -> list[float]:
        """What the cosines of each tile add up to, in the order of the tiles."""

    def add_rectangle(self, rows: Any, cols: Any) -> None:
        """Take in every pair of a row and a column."""

    def add_triangle(self, rows: Any) -> None:
        """Take in every unordered pair among some rows."""


class Kernel(Protocol):
    """One kind of device."""

    @property
    def AHEAD(self) -> int:  # noqa: N802 - a constant of a module
        """Panels of columns that are made ready while others are counted with."""

    def make_panel(
        self, block: Any, precision: str, first_row: int = 0, *, overwrite: bool = False
    ) -> TileRows:
        """Normalise the rows of one tile, where the device has them."""

    def counting(self, tally: Tally, ask: Ask) -> AbstractContextManager[Counter]:
        """Count into a tally."""

    def keep_within(self, nbytes: int) -> None:
        """Hold no more on the device than so many bytes."""

    def forget(self) -> None:
        """Give back what the device holds and does not use."""


def kernel(device: str) -> Kernel:
    """The kernel of a device: ``cpu`` or ``gpu``."""
    if device == "gpu":
        from geomsae.pairs import gpu

        return gpu
    return cpu


def check_device(device: str, precision: str) -> None:
    """Refuse what this process cannot count on, or in.

    Parameters
    ----------
    device : {"cpu", "gpu"}
        What multiplies.
    precision : str
        Arithmetic of the products.

    Raises
    ------
    DeviceError
        If so; the sentence says what can be done.
    """
    if device == "gpu":
        from geomsae.pairs.gpu.card import check_card

        check_card(precision)
    elif precision in TENSOR_CORES:
        raise DeviceError(
            f"precision {precision} takes the tensor cores of a GPU: use float32, or --device gpu"
        )
