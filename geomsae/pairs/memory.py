"""Memory for what is large and short-lived: panels and products."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Make an array like ``numpy.empty``, in pages of the ordinary size.

    NumPy asks for huge pages. A virtual machine may have handed those back to its host, and then
    the first touch of each costs several times as much as counting what is in it saves later.

    Parameters
    ----------
    shape : tuple of int
        Shape; not empty.
    dtype : str
        Element type.
    """
    size = math.prod(shape)
    pages = mmap.mmap(-1, size * np.dtype(dtype).itemsize, access=mmap.ACCESS_COPY)
    return np.frombuffer(pages, dtype, size).reshape(shape)
