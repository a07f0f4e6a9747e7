"""The source of the kernels is compiled as a card would have it compiled, so that no card is needed
to see that it is broken."""

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from geomsae.pairs.gpu import launch

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def nvrtc():
    """The compiler that comes with CUDA, as a library."""
    found = find_spec("nvidia")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    libraries = [file for folder in folders for file in Path(folder).rglob("libnvrtc.so.*")]
    if not libraries:
        pytest.skip("no package brings NVRTC here")
    library = ctypes.CDLL(str(min(libraries)))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def compiled(nvrtc, source, options):
    """The machine code of a source; an error with the compiler's words if it cannot be had."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    words = [word.encode() for word in options]
    assert nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None
    ) == 0  # fmt: skip
    failed = nvrtc.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if failed:
        raise AssertionError(log.value.decode())
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    return code.raw


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernels_compile(nvrtc, architecture, dtype):
    source = launch.source()
    code = compiled(nvrtc, source, [*launch.options(dtype), f"-arch={architecture}"])
    names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(.*?\) )?(\w+)', source)
    assert len(names) == 7
    assert all(name.encode() in code for name in names)


def test_a_broken_kernel_is_seen(nvrtc):
    broken = launch.source().replace("__syncwarp", "__sinkwarp", 1)
    with pytest.raises(AssertionError, match="__sinkwarp"):
        compiled(nvrtc, broken, [*launch.options("float32"), "-arch=sm_90"])


def test_the_numbers_that_source_and_caller_share_are_the_same():
    source = launch.source()
    for name in ("STRIP", "THREADS", "WARP"):
        (value,) = re.findall(rf"#define {name} (\d+)", source)
        assert int(value) == getattr(launch, name)
