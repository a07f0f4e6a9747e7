"""The card of this process: whether there is one, what it can do, and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from geomsae.errors import DeviceError, DeviceMemoryError

INSTALL = "pip install 'geomsae[cuda13]', or 'geomsae[cuda12]' for a driver of CUDA 12"

OLDEST = {"float32": 60, "float64": 60, "fp16x3": 70, "tf32": 80}
"""Ten times the compute capability that each precision needs, at least."""


def available() -> bool:
    """Whether CuPy is installed and finds a card."""
    try:
        import cupy
    except ImportError:
        return False
    return bool(cupy.cuda.is_available())


def check_card(precision: str) -> None:
    """Refuse a card that is not there, or cannot do the arithmetic.

    Raises
    ------
    DeviceError
        If so; the sentence says what to install, or which precision to ask for.
    """
    if not available():
        raise DeviceError(f"no GPU can be used here: {INSTALL}, or use --device cpu")
    import cupy

    capability = int(cupy.cuda.Device().compute_capability)
    if capability < OLDEST[precision]:
        raise DeviceError(
            f"{describe()} cannot multiply in {precision}: it has compute capability "
            f"{capability / 10}, and {OLDEST[precision] / 10} is needed; use float32"
        )


def describe() -> str:
    """The name of the card."""
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def free_memory() -> int:
    """Bytes of the card's memory that nobody uses, those among them that our pool keeps."""
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    return int(free + _pool().free_bytes())


def keep_within(nbytes: int) -> None:
    """Let the pool of this process take so many bytes of the card, and no more."""
    _pool().set_limit(size=nbytes)


@cache
def _pool() -> Any:
    import cupy

    return cupy.cuda.MemoryPool()


_OUT_OF_MEMORY = ("OutOfMemory", "MemoryAllocation", "OUT_OF_MEMORY", "ALLOC_FAILED")
"""What the errors of CuPy's pool, of CUDA and of cuBLAS say when there is no memory left."""


@contextmanager
def own_memory() -> Iterator[None]:
    """Take memory of the card from a pool of our own.

    Raises
    ------
    DeviceMemoryError
        If there is not as much as is asked for, or it may not be taken.
    """
    import cupy

    try:
        with cupy.cuda.using_allocator(_pool().malloc):
            yield
    except Exception as error:
        if not any(word in f"{type(error).__name__} {error}" for word in _OUT_OF_MEMORY):
            raise
        raise DeviceMemoryError(f"the memory of {describe()} is not enough: {error}") from error


def forget() -> None:
    """Give back to the card what is not in use."""
    _pool().free_all_blocks()
