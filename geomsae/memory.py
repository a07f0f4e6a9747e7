"""Memory for what is large and short-lived: panels and products."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)


def empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Make an array like ``numpy.empty``, in pages of the ordinary size that are there at once.

    NumPy asks for huge pages. A virtual machine may have handed those back to its host, and then
    touching them for the first time costs several times what ordinary pages cost. Asked for one by
    one, on the other hand, these cost half as much again.

    Parameters
    ----------
    shape : tuple of int
        Shape; not empty.
    dtype : str
        Element type.
    """
    size = math.prod(shape)
    pages = mmap.mmap(-1, size * np.dtype(dtype).itemsize, flags=_FLAGS)
    return np.frombuffer(pages, dtype, size).reshape(shape)
