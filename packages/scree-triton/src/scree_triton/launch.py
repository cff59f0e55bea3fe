"""Launching kernels: Triton compiles a variant at its first launch, later ones skip its dispatch.

``JITFunction.run`` looks at every argument of every call, 10 us or more for twenty of them. A ``Variant`` stands for
one combination of what it would look at, so that its caller decides which it is by a single dictionary lookup.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
from triton import knobs

from scree_triton.starters import starter

INTERPRETED: bool = knobs.runtime.interpret
"""Whether kernels run in Triton's interpreter: ``TRITON_INTERPRET``, read when they are defined."""

ROCM = torch.version.hip is not None


class Variant:
    """A kernel with its constants and options, for arguments that Triton would specialise alike.

    Parameters
    ----------
    kernel : triton.JITFunction
        Its constants are its last parameters.
    constants : dict
        Of every ``tl.constexpr`` parameter.
    num_warps, num_stages : int
        Of the compiled kernel.
    **more
        Further options of the compiler.

    Notes
    -----
    Arguments of one variant must agree in their dtypes, in which of them are None, in the integers that the kernel
    specialises on, and in whether pointers are multiples of 16; and be on one device.
    """

    __slots__ = ("_constants", "_kernel", "_options", "start")

    def __init__(self, kernel: Any, constants: dict[str, Any], num_warps: int, num_stages: int, **more: Any) -> None:
        self._kernel = kernel
        self._constants = constants
        self._options = {"num_warps": num_warps, "num_stages": num_stages, **more}
        self.start: Any = None
        """What starts the compiled kernel, as soon as there is one."""

    @property
    def told(self) -> tuple[Any, ...]:
        """What the kernel is compiled for beside its arguments."""
        return *self._constants.items(), *self._options.items()

    def __call__(self, programs: int, *arguments: Any) -> None:
        """Launch on the current stream of the current device; arrays, or None for some, come first."""
        start = self.start
        if start is None or _watched():
            compiled = self._kernel[(programs,)](*arguments, **self._constants, **self._options)
            if compiled is not None:
                arrays = sum(x is None or isinstance(x, torch.Tensor) for x in arguments)
                self.start = starter(compiled, self._kernel, self._constants, arrays)
            return
        count = start.arrays
        start(programs, arguments[:count], start.rest(arguments[count:]))


class Launch:
    """A launch of which all but the arrays is settled.

    Parameters
    ----------
    variant : Variant
        What to launch.
    programs : int
        How many programs.
    numbers : tuple
        What the kernel takes behind its arrays.
    """

    __slots__ = ("_numbers", "_programs", "_rest", "_variant")

    def __init__(self, variant: Variant, programs: int, numbers: tuple[Any, ...]) -> None:
        self._variant = variant
        self._programs = programs
        self._numbers = numbers
        self._rest: tuple[Any, ...] | None = None

    def __call__(self, *arrays: torch.Tensor | None) -> None:
        """Launch on the current stream of the current device."""
        start = self._variant.start
        if start is None or _watched():
            self._variant(self._programs, *arrays, *self._numbers)
            return
        rest = self._rest
        if rest is None:
            rest = self._rest = start.rest(self._numbers)
        start(self._programs, arrays, rest)

    def of_programs(self, programs: int) -> Launch:
        """Return the launch of another number of programs."""
        return Launch(self._variant, programs, self._numbers)

    def changed(self, programs: int, constants: dict[str, Any], options: dict[str, int]) -> Launch:
        """Return the launch with some of the kernel's constants, and its options, replaced."""
        variant = self._variant
        other = Variant(variant._kernel, variant._constants | constants, **options)
        return Launch(other, programs, self._numbers)


def _watched() -> bool:
    """Tell whether a profiler wants to hear of launches; up to Triton 3.4 a function, later a chain of them."""
    hook = knobs.runtime.launch_enter_hook
    return bool(getattr(hook, "calls", hook))


def on_device_of(x: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the device of x is the current one."""
    return torch.cuda.device(x.device) if elsewhere(x) else _HERE


def elsewhere(x: torch.Tensor) -> bool:
    """Tell whether x is on a GPU that isn't the current one."""
    return x.is_cuda and x.get_device() != torch._C._cuda_getDevice()


_HERE = contextlib.nullcontext()


class Memory(NamedTuple):
    """Contiguous memory to be allocated."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


def memory(shape: tuple[int, ...], dtype: torch.dtype) -> Memory:
    """Return what ``empty`` takes."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return Memory(tuple(shape), tuple(reversed(strides)), dtype)


def empty(wanted: Memory, like: torch.Tensor) -> torch.Tensor:
    """Return new memory on the device of a tensor, which is the current one.

    ``torch.empty`` takes three times as long as what the compiler of PyTorch allocates with. It is used where memory
    shall be filled, for deterministic algorithms.
    """
    if _allocate is None or not like.is_cuda or torch._C._get_deterministic_algorithms():
        return torch.empty(wanted.shape, dtype=wanted.dtype, device=like.device)
    return _allocate(*wanted)


_allocate = None if ROCM else getattr(torch._C._dynamo.guards, "_empty_strided_cuda", None)
