"""One call of a kernel written in Gluon, which jax-triton doesn't compile, by the way that jax-triton's calls go."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir, xla

from scree_triton.jax import library
from scree_triton.jax.library import memory

TARGET = "triton_kernel_call"
"""What JAX's plugin for CUDA starts kernels by."""
TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "int32": "i32", "int64": "i64"}
POINTER, DESCRIPTION = 16, 128
"""What addresses are multiples of: those of arrays, as XLA allocates them, and those of descriptions of arrays."""


class Kernel(NamedTuple):
    """A kernel with what it is compiled for.

    Its parameters are arrays that are read, numbers, arrays that are written, and constants.
    """

    function: Any
    """Of ``gluon.jit``."""
    num_warps: int
    registers: int
    """Of a thread, at most."""
    scratch: int
    """Bytes of memory that each program needs for the descriptions that it makes of arrays."""
    constants: tuple[tuple[str, Any], ...]


class Compiled(NamedTuple):
    """A kernel in the assembly language that JAX's plugin compiles further."""

    name: str
    num_warps: int
    """Of all parts of a program."""
    shared: int
    """Bytes of memory that a program's warps share."""
    ptx: str


def call(
    kernel: Kernel,
    programs: int,
    *arguments: jax.Array | int | np.float32,
    out: list[jax.ShapeDtypeStruct],
    zeroed: tuple[int, ...] = (),
) -> list[jax.Array]:
    """Return what a kernel writes, as ``library.call`` does; numbers come behind the arrays that are read.

    It is compiled where a program is, for a GPU of NVIDIA's, and kept in Triton's cache.
    """
    numbers = tuple(x for x in arguments if isinstance(x, int | np.float32))
    arrays = arguments[: len(arguments) - len(numbers)]
    # Triton's kernels take the address of such memory behind their own parameters, then one for profilers. JAX gives
    # null for both behind what it is told to give: a kernel that is given its own doesn't read on that far.
    scratch = memory((programs * kernel.scratch,), np.uint8)
    written = _call.bind(*arrays, kernel=kernel, programs=programs, numbers=numbers, out=(*out, scratch), zeroed=zeroed)
    return written[:-1]


_call = Primitive("scree_gluon_call")
_call.multiple_results = True
_call.def_impl(functools.partial(xla.apply_primitive, _call))


@_call.def_abstract_eval
def _shapes(*_: Any, out: tuple[jax.ShapeDtypeStruct, ...], **rest: Any) -> list[Any]:
    return [jax.core.ShapedArray(x.shape, x.dtype) for x in out]


def _lower(
    context: Any,
    *arrays: Any,
    kernel: Kernel,
    programs: int,
    numbers: tuple[int | np.float32, ...],
    out: tuple[jax.ShapeDtypeStruct, ...],
    zeroed: tuple[int, ...],
) -> Any:
    from jaxlib import gpu_triton

    capability, types = library.capability(), types_of(context.avals_in, numbers, out[:-1])
    compiled = compiled_for(kernel, types, capability)
    parameters = [gpu_triton.create_array_parameter(0, POINTER) for _ in arrays]
    for number, type_ in zip(numbers, types[len(arrays) :], strict=False):
        parameters.append(gpu_triton.create_scalar_parameter(number if type_ == "i32" else float(number), type_))
    for i, x in enumerate(out[:-1]):
        parameters.append(gpu_triton.create_array_parameter(x.size * x.dtype.itemsize if i in zeroed else 0, POINTER))
    parameters.append(gpu_triton.create_array_parameter(0, DESCRIPTION))
    parameters.append(gpu_triton.create_scalar_parameter(0, "u64"))
    name, num_warps, shared, text = compiled
    image = gpu_triton.TritonKernel(name, num_warps, 1, shared, text, "", capability)
    started = gpu_triton.TritonKernelCall(image, programs, 1, 1, parameters)
    config = zlib.compress(started.to_proto(name, b""))
    lowered = jax.ffi.ffi_lowering(TARGET, api_version=2, backend_config=config)  # pyrefly: ignore[bad-argument-type]
    return lowered(context, *arrays)


mlir.register_lowering(_call, _lower, platform="cuda")


def types_of(arrays: Iterable[Any], numbers: Iterable[int | np.float32], out: Iterable[Any]) -> tuple[str, ...]:
    """Return Triton's names for the types of a kernel's parameters: arrays, numbers, and arrays that are written."""
    read, written = ([f"*{TYPES[x.dtype.name]}" for x in xs] for xs in (arrays, out))
    return *read, *("i32" if isinstance(x, int) else "fp32" for x in numbers), *written


@functools.cache
def compiled_for(kernel: Kernel, types: tuple[str, ...], capability: int) -> Compiled:
    """Return a kernel compiled for parameters of such types, those that aren't constants."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    constants = dict(kernel.constants)
    names = kernel.function.arg_names
    given = dict(zip((name for name in names if name not in constants), types, strict=True))
    signature = {name: given.get(name, "constexpr") for name in names}
    aligned = {(i,): [["tt.divisibility", POINTER]] for i, name in enumerate(names) if signature[name].startswith("*")}
    binary = triton.compile(
        GluonASTSource(kernel.function, signature, constants, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": kernel.num_warps, "num_stages": 1, "maxnreg": kernel.registers, "enable_fp_fusion": True},
    )
    found = binary.metadata
    if found.global_scratch_size > kernel.scratch or found.global_scratch_align > DESCRIPTION:
        raise AssertionError(f"{found.name} needs {found.global_scratch_size} bytes, not {kernel.scratch}")
    return Compiled(found.name, found.num_warps, found.shared, binary.asm["ptx"])
