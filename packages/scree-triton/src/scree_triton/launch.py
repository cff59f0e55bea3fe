"""Launching kernels: Triton compiles a variant at its first launch, later ones skip its dispatch.

``JITFunction.run`` looks at every argument of every call, 10 us or more for twenty of them. A ``Variant`` stands for
one combination of what it would look at, so that its caller decides which it is by a single dictionary lookup.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
from triton import knobs

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

    Notes
    -----
    Arguments of one variant must agree in their dtypes, in which of them are None, in the integers that the kernel
    specialises on, and in whether pointers are multiples of 16; and be on one device.
    """

    __slots__ = ("_compiled", "_constants", "_kernel", "_last", "_options")

    def __init__(self, kernel: Any, constants: dict[str, Any], num_warps: int, num_stages: int) -> None:
        self._kernel = kernel
        self._constants = constants
        self._options = {"num_warps": num_warps, "num_stages": num_stages}
        names = list(kernel.arg_names)
        self._last = tuple(constants[name] for name in names[len(names) - len(constants) :])
        self._compiled: Any = None

    def __call__(self, programs: int, *arguments: Any) -> None:
        """Launch on the current stream of the current device."""
        compiled = self._compiled
        if compiled is None or _watched():
            self._compiled = self._kernel[(programs,)](*arguments, **self._constants, **self._options)
            return
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        function, metadata = compiled.function, compiled.packed_metadata
        compiled.run(programs, 1, 1, stream, function, metadata, None, None, None, *arguments, *self._last)


def _watched() -> bool:
    """Tell whether a profiler wants to hear of launches; up to Triton 3.4 a function, later a chain of them."""
    hook = knobs.runtime.launch_enter_hook
    return bool(getattr(hook, "calls", hook))


def on_device_of(x: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the device of x is the current one."""
    if x.device.type != "cuda" or x.device.index == torch._C._cuda_getDevice():
        return _HERE
    return torch.cuda.device(x.device)


_HERE = contextlib.nullcontext()


def power_of_2(n: int) -> int:
    """Return the smallest power of 2 that is at least n, and 16: what ``tl.dot`` asks of a side."""
    return max(16, triton.next_power_of_2(n))
