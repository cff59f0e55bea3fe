"""jax-triton: whether it is there, and one call of it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from scree_triton.switches import is_on

OLDEST = 80
"""The compute capability that kernels need, times ten: 8.0 is Ampere."""


class Kernel(NamedTuple):
    """A kernel with what it is compiled for."""

    function: Any
    """Of ``kernels.plain``."""
    num_warps: int
    num_stages: int
    constants: dict[str, Any]


@functools.cache
def not_installed() -> str | None:
    """Return what isn't installed, with what mends it; imports nothing."""
    if not sys.platform.startswith("linux"):
        return f"Triton needs Linux, this is {sys.platform}"
    for module, project in (("triton", "triton"), ("jax_triton", "jax-triton")):
        if importlib.util.find_spec(module) is None:
            return f"{project} is not installed: pip install {project}"
    return None


@functools.cache
def not_working() -> str | None:
    """Return why kernels can't run in this process, which has a GPU; imports jax-triton and Triton, once."""
    if is_on("TRITON_INTERPRET"):
        return "TRITON_INTERPRET is set, and jax-triton runs compiled kernels alone"
    try:
        jax.devices("cuda")
    except RuntimeError:
        return "it needs a GPU of NVIDIA's"
    try:
        found = capability()
    except Exception as error:
        return f"jax-triton can't be loaded: {type(error).__name__}: {error}"
    if found < OLDEST:
        return f"the GPU's compute capability is {found / 10}, need {OLDEST / 10}"
    return None


def capability() -> int:
    """Return the compute capability of the first GPU, times ten; jax-triton compiles for that one alone."""
    return _library().get_compute_capability(0)


def multiprocessors() -> int:
    """Return how many multiprocessors the first GPU has."""
    return jax.devices("cuda")[0].core_count


def call(
    kernel: Kernel, programs: int, *arguments: jax.Array | int | np.float32, out: Any, zeroed: tuple[int, ...] = ()
) -> list[jax.Array]:
    """Return what a kernel writes.

    Parameters
    ----------
    kernel : Kernel
        Which, and its constants.
    programs : int
        How many are started.
    *arguments : jax.Array, int or numpy.float32
        What it reads, in the order of its parameters. A float of Python's would be one of 64 bits.
    out : sequence of jax.ShapeDtypeStruct
        What it writes, whose parameters follow.
    zeroed : tuple of int
        Which of these are zeros before it runs; the others hold anything.
    """
    return _library().triton_call(
        *arguments,
        kernel=kernel.function,
        out_shape=list(out),
        grid=(programs,),
        name=kernel.function.fn.__name__,
        num_warps=kernel.num_warps,
        num_stages=kernel.num_stages,
        compute_capability=capability(),
        zeroed_outputs=zeroed,
        **kernel.constants,
    )


def memory(shape: tuple[int, ...], dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
    """Return what a kernel writes."""
    return jax.ShapeDtypeStruct(shape, dtype)


@functools.cache
def _library() -> Any:
    # Its import empties the path of Triton's cache, which PyTorch's kernels go by too.
    kept = os.environ.get("TRITON_CACHE_DIR")
    try:
        return importlib.import_module("jax_triton")
    finally:
        os.environ.pop("TRITON_CACHE_DIR", None)
        if kept is not None:
            os.environ["TRITON_CACHE_DIR"] = kept
