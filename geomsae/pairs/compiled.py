"""Compilation of the inner loops by Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter's lock, kept on disk where some folder can be written.

    Sums may be taken in any order, so that they run in vector registers.
    """
    options: Any = {"nogil": True, "fastmath": {"reassoc"}}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in, as on a read-only machine
        made = numba.njit(**options)(function)
    return cast(Callable[..., Any], made)
