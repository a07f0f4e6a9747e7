"""What geomsae says to CuPy, answered by NumPy and by kernels that were compiled for the processor.

Streams have no meaning here: everything is done when it is said. Products on tensor cores add up as
the hardest of them do: sums of 16 products each, cut off to float32 as they are added.
"""

import ctypes
import re
import subprocess
import sys
import tempfile
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

BLOCK = Path(__file__).with_name("block.hpp")
SHARED = 44 * 1024  # of 48, because kernels have some of their own


class OutOfMemoryError(Exception):
    """As CuPy's own."""


class Array(np.ndarray):
    """An array on the card that is not there."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self, out=None, blocking=True):
        if out is None:
            return np.array(self)
        assert (out.dtype, out.shape) == (self.dtype, self.shape)
        out[...] = self
        return out

    def set(self, values, stream):
        assert (values.dtype, values.shape) == (self.dtype, self.shape)
        assert stream is not None  # else it could come too late for a kernel on another one
        self[...] = values


class MemoryPool:
    """Counts what is alive, in the pieces that CuPy gives: a limit is kept to or it is not."""

    def __init__(self):
        self.limit = 0
        self.alive = 0

    def set_limit(self, size):
        self.limit = size

    def malloc(self, array):
        size = -(-array.nbytes // 512) * 512
        if self.limit and self.alive + size > self.limit:
            raise OutOfMemoryError(f"{size:,} bytes beside {self.alive:,} exceed {self.limit:,}")
        self.alive += size
        weakref.finalize(array, self._let_go, size)

    def _let_go(self, size):
        self.alive -= size

    def free_bytes(self):
        return 0

    def free_all_blocks(self):
        pass


class Stream:
    def __init__(self, non_blocking=False, priority=0):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        pass

    def wait_event(self, event):
        assert event.recorded


class Event:
    def __init__(self, disable_timing=False):
        self.recorded = False

    def record(self, stream=None):
        self.recorded = True

    def synchronize(self):
        assert self.recorded


_allocators = []


@contextmanager
def using_allocator(malloc):
    _allocators.append(malloc)
    try:
        yield
    finally:
        _allocators.pop()


def _given(array):
    made = array.view(Array)
    if _allocators:
        _allocators[-1](made)
    return made


def empty(shape, dtype):
    """As new as it can be: nothing may depend on what was there."""
    made = np.empty(shape, dtype)
    made.view(np.uint8).reshape(-1)[:] = 0xA5 if made.size else 0
    return _given(made)


def zeros(shape, dtype):
    return _given(np.zeros(shape, dtype))


def array(values, dtype):
    return _given(np.array(values, dtype))


def asarray(values):
    return _given(np.array(values))


def histogram(values, bins, span):
    return np.histogram(values, bins, span)[0].view(Array), None


class RawModule:
    """The kernels of a source as functions of a shared library."""

    def __init__(self, code, options):
        names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(.*?\) )?(\w+)', code)
        entries = "".join(
            f'extern "C" void launch_{name}(void** given, const unsigned* shape) '
            f"{{ launch({name}, given, shape); }}\n"
            for name in names
        )
        code = code.replace("extern __shared__ unsigned own[];", "")
        text = f'#include "{BLOCK}"\nunsigned own[{SHARED // 4}];\n{code}\n{entries}'
        folder = Path(tempfile.mkdtemp())
        (folder / "kernels.cpp").write_text(text)
        words = [
            "g++",
            "-shared",
            "-fPIC",
            "-O1",
            "-w",
            "-fno-strict-aliasing",
            "-ffp-contract=off",
        ]
        words += ["-mfma", "-std=c++17", *(word for word in options if word.startswith("-D"))]
        library = folder / "kernels.so"
        subprocess.run([*words, str(folder / "kernels.cpp"), "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))

    def get_function(self, name):
        entry = getattr(self._library, f"launch_{name}")

        def launch(grid, block, arguments, shared_mem=0):
            assert shared_mem <= SHARED
            assert len(block) == 1
            assert block[0] <= 1024
            held = []
            for argument in arguments:
                if isinstance(argument, np.ndarray):
                    held.append(ctypes.c_void_p(argument.ctypes.data))
                else:  # a scalar of NumPy, whose type says its size
                    held.append(np.array(argument))
            where = [
                ctypes.addressof(word) if isinstance(word, ctypes.c_void_p) else word.ctypes.data
                for word in held
            ]
            shape = np.array([grid[0], (*grid, 1)[1], block[0], shared_mem], np.uint32)
            entry((ctypes.c_void_p * len(where))(*where), shape.ctypes.data_as(ctypes.c_void_p))

        return launch


CUDA_R_16F, CUDA_R_32F, CUDA_R_64F = 2, 0, 1
_TYPES = {CUDA_R_16F: np.float16, CUDA_R_32F: np.float32, CUDA_R_64F: np.float64}
COMPUTE_32F, COMPUTE_TF32, COMPUTE_64F = 68, 77, 70


def _gemm(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc,
          compute, algorithm):  # fmt: skip
    """C = alpha A' B + beta C of columns that lie one after another, as cuBLAS has it."""
    assert (op_a, op_b) == (1, 0)
    first, second = _matrix(a, a_type, m, k, lda), _matrix(b, b_type, n, k, ldb)
    out = _matrix(c, c_type, n, m, ldc)
    scalar = np.float64 if compute == COMPUTE_64F else np.float32
    scale, before = (_matrix(at, c_type, 1, 1, 1).astype(scalar)[0, 0] for at in (alpha, beta))
    if compute == COMPUTE_TF32:
        first, second = _to_tf32(first), _to_tf32(second)
    if compute == COMPUTE_64F:
        product = second @ first.T
    elif a_type == CUDA_R_16F or compute == COMPUTE_TF32:
        product = _on_tensor_cores(second, first)
    else:
        product = np.asarray(second, np.float32) @ np.asarray(first, np.float32).T
    kept = before * out if before else 0
    out[...] = scale * product + kept


def _matrix(address, kind, rows, columns, stride):
    """Rows of numbers at an address."""
    dtype = np.dtype(_TYPES[kind])
    size = ((rows - 1) * stride + columns) * dtype.itemsize
    flat = np.frombuffer((ctypes.c_char * size).from_address(address), dtype)
    steps = stride * dtype.itemsize, dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), steps)


def _to_tf32(values):
    """Rounded to 10 bits after the point."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def _on_tensor_cores(rows, cols):
    total = np.zeros((len(rows), len(cols)), np.float32)
    for first in range(0, rows.shape[1], 16):
        some = slice(first, first + 16)
        exact = total + rows[:, some].astype(np.float64) @ cols[:, some].astype(np.float64).T
        total = exact.astype(np.float32)
        beyond = np.abs(total) > np.abs(exact)
        total[beyond] = np.nextafter(total[beyond], np.float32(0))
    return total


NAMES = ("RawModule", "array", "asarray", "empty", "histogram", "zeros")


def module(memory=1 << 34, capability="90"):
    """The package, with a card of so much free memory."""
    cupy = ModuleType("cupy")
    cublas = SimpleNamespace(
        CUBLAS_OP_T=1,
        CUBLAS_OP_N=0,
        CUBLAS_COMPUTE_32F=COMPUTE_32F,
        CUBLAS_COMPUTE_32F_FAST_TF32=COMPUTE_TF32,
        CUBLAS_COMPUTE_64F=COMPUTE_64F,
        CUBLAS_GEMM_DEFAULT=-1,
        CUBLAS_DEFAULT_MATH=0,
        create=lambda: 1,
        setMathMode=lambda handle, mode: None,
        gemmEx=_gemm,
    )
    runtime = SimpleNamespace(
        CUDA_R_16F=CUDA_R_16F,
        CUDA_R_32F=CUDA_R_32F,
        CUDA_R_64F=CUDA_R_64F,
        memGetInfo=lambda: (memory, memory),
        getDeviceProperties=lambda number: {"name": b"a card that is not there"},
    )
    cuda = ModuleType("cupy.cuda")
    cuda.__dict__.update(
        Device=lambda: SimpleNamespace(
            id=0, compute_capability=capability, synchronize=lambda: None
        ),
        Event=Event,
        MemoryPool=MemoryPool,
        Stream=Stream,
        alloc_pinned_memory=bytearray,
        cublas=cublas,
        is_available=lambda: True,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=runtime,
        get_current_stream=Stream,
        using_allocator=using_allocator,
    )
    mine = sys.modules[__name__]
    cupy.__dict__.update(
        {name: getattr(mine, name) for name in NAMES},
        cuda=cuda,
        ndarray=Array,
    )
    return cupy, cuda
