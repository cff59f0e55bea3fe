"""The memory that a call takes at its peak, in tensors on the CPU: ``python benchmarks/tensor_peak.py`` checks it.

PyTorch's profiler is told of every block that PyTorch's allocator of the CPU hands out and takes back, so that what
operators allocate within, and hold for backward, counts to the byte. What isn't counted: arrays of NumPy, Python's
objects, work space of oneDNN, BLAS and threads, and what the C library keeps of freed blocks.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would print two lines at each call

import torch

SLACK = 256
"""Bytes: numbers within expressions are tensors too."""


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the bytes that a call takes at its peak above what is held before it.

    Notes
    -----
    Call it once before: what only the first call allocates counts too. What was there before the call and is freed by
    it makes up for nothing.
    """
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = run()
    del result
    return max(itertools.accumulate(_sizes(profiled), initial=0))


def _sizes(profiled: Any) -> Iterator[int]:
    """Go through what was allocated, and freed as a negative number, in the order of time."""
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.device_type() == torch.autograd.DeviceType.CPU:
            yield event.nbytes()


def check() -> None:
    """Stop unless calls whose peak is known are measured right."""
    mib = 2**20
    x = torch.ones(mib // 4)
    w = torch.ones(mib // 4, requires_grad=True)

    def in_a_row() -> torch.Tensor:
        a = x + 1
        b = a + 1
        del a
        return b + 1  # beside b alone

    def step() -> None:
        w.exp().sin().sum().backward()  # sin's input is held, its output and then the gradient come beside it
        w.grad = None

    def within() -> torch.Tensor:
        return torch.nn.functional.softplus(x.double()).float()  # 2 + 2, then 2 + 1

    known = {"one after the other": (in_a_row, 2 * mib), "backward": (step, 3 * mib), "double": (within, 4 * mib)}
    for name, (run, wanted) in known.items():
        run()
        if not wanted <= (found := peak_bytes(run)) <= wanted + SLACK:
            raise SystemExit(f"tensor_peak, {name}: measured {found:,} bytes, known are {wanted:,}: no figures")


if __name__ == "__main__":
    check()
    print("calls of known peak are measured right")
