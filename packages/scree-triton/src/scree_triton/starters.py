"""What starts a compiled kernel: the launcher that PyTorch brings for its own compiler's kernels, or Triton's.

PyTorch's takes what the machine code takes and nothing else, and so takes 5 us where Triton's takes 8 (an H100's
host, 20 arguments, Triton 3.6). It knows NVIDIA's GPUs, and kernels that need neither memory of their own nor
descriptors of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_TYPES = {"i1": "i", "i8": "b", "i16": "h", "i32": "i", "i64": "l", "u8": "B", "u16": "H", "u32": "I", "u64": "K"}
_TYPES |= {"fp16": "f", "bf16": "f", "fp32": "f", "fp64": "d"}

# Older ones than were run took fewer arguments.
_recent = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 11) and torch.version.hip is None
_launcher: Any = getattr(torch._C, "_StaticCudaLauncher", None) if _recent else None


def starter(compiled: Any, kernel: Any, constants: dict[str, Any], arrays: int) -> ByTorch | ByTriton:
    """Return what starts a kernel that Triton has compiled, on arguments that it would specialise alike.

    Parameters
    ----------
    compiled : triton.compiler.CompiledKernel
        What the first launch gave.
    kernel : triton.JITFunction
        What it was compiled from.
    constants : dict
        Of every ``tl.constexpr`` parameter.
    arrays : int
        How many of the other parameters, the first, are arrays.
    """
    metadata = compiled.metadata
    own_memory = getattr(metadata, "global_scratch_size", 0) or getattr(metadata, "profile_scratch_size", 0)
    alone = getattr(metadata, "num_ctas", 1) == 1 and not getattr(metadata, "launch_pdl", False)
    cooperative = getattr(metadata, "launch_cooperative_grid", False)
    described = any(str(kind).startswith("tensordesc") for kind in compiled.src.signature.values())
    if _launcher is None or own_memory or cooperative or described or not alone:
        return ByTriton(compiled, kernel, constants, arrays)
    return ByTorch(compiled, kernel, constants, arrays)


class ByTorch:
    """Starts a kernel by PyTorch's launcher; arguments that are compiled in are left out."""

    __slots__ = ("_compiled", "_function", "_kept", "_launch", "_scratch", "_shared", "_types", "_warps", "arrays")

    def __init__(self, compiled: Any, kernel: Any, constants: dict[str, Any], arrays: int) -> None:
        signature = compiled.src.signature
        kinds = [signature[name] for name in kernel.arg_names if name not in constants]
        self.arrays = arrays
        self._kept = tuple(i for i, kind in enumerate(kinds[arrays:]) if kind != "constexpr")
        # Two more pointers, to memory of its own, which it has none of.
        metadata = compiled.metadata
        scratch = [name for name in ("global_scratch_size", "profile_scratch_size") if hasattr(metadata, name)]
        self._scratch = (None,) * len(scratch)
        types = ["O" if kind[0] == "*" else _TYPES[kind] for kind in kinds if kind != "constexpr"]
        self._types = "".join(types) + "O" * len(scratch)
        self._launch = _launcher._launch_kernel
        self._compiled = compiled  # which would take its code with it
        self._function, self._warps, self._shared = compiled.function, metadata.num_warps, metadata.shared

    def rest(self, numbers: Sequence[Any]) -> tuple[Any, ...]:
        """Return what is passed behind the arrays."""
        return *[numbers[i] for i in self._kept], *self._scratch

    def __call__(self, programs: int, arrays: Sequence[torch.Tensor | None], rest: tuple[Any, ...]) -> None:
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        values = *[x.data_ptr() for x in arrays if x is not None], *rest
        self._launch(self._function, programs, 1, 1, self._warps, self._shared, self._types, values, stream)


class ByTriton:
    """Starts a kernel by Triton's launcher, which wants all arguments, those that are compiled in too."""

    __slots__ = ("_compiled", "_constants", "arrays")

    def __init__(self, compiled: Any, kernel: Any, constants: dict[str, Any], arrays: int) -> None:
        self.arrays = arrays
        self._compiled = compiled
        self._constants = tuple(constants[name] for name in kernel.arg_names if name in constants)

    def rest(self, numbers: Sequence[Any]) -> tuple[Any, ...]:
        """Return what is passed behind the arrays."""
        return *numbers, *self._constants

    def __call__(self, programs: int, arrays: Sequence[torch.Tensor | None], rest: tuple[Any, ...]) -> None:
        compiled, stream = self._compiled, torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        # Of a tensor, the launcher would ask the driver where it is.
        pointers = [None if x is None else x.data_ptr() for x in arrays]
        function, metadata = compiled.function, compiled.packed_metadata
        compiled.run(programs, 1, 1, stream, function, metadata, None, None, None, *pointers, *rest)
