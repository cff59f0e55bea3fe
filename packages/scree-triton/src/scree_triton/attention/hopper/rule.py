"""Which calls the forward kernel for Hopper is for, and what it is compiled for, whatever library has their arrays."""

from __future__ import annotations

VERSIONS = ("3.6", "3.9")
"""Of Triton, for which kernels are compiled ahead: their language, Gluon, changes from one to the next. On a GPU they
ran with 3.6 alone."""

BLOCK_M, BLOCK_N, STAGES = 128, 128, 2
HEAD_DIM = 128
FAR = 2**30
"""Where a described row ends, and the most elements of a batch."""
MOST = 0x7FFF0000
"""Where no coordinate comes."""
LEAST_WORK, LEAST_LENGTH = 100_000, 64
"""Queries times heads, and the mean length of a row: see ``is_worth``."""
NUM_WARPS, REGISTERS = 4, 168
"""Of the part that a program starts with, and of a thread then, for 12 warps; later the loading warp gives most of its
own to the others."""


def computes(
    itemsize: int,
    dims: tuple[int, int],
    *,
    head_dims: tuple[int, ...] = (HEAD_DIM,),
    causal: bool,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
) -> bool:
    """Tell whether a kernel can compute a call: half precision, no window, no softcap, a scale above zero.

    Heads are of one of ``head_dims``: forwards 128 alone. The exponentials are what bounds narrower ones, and a
    prototype of such a kernel was slower than ``forward_kernel``.
    """
    left, right = window
    whole = left < 0 and (causal or right < 0) and softcap is None
    return itemsize == 2 and dims[0] == dims[1] and dims[0] in head_dims and whole and scale > 0


def is_worth(queries: int, keys: int, heads: int, batch: int) -> bool:
    """Tell whether there is enough to do forwards, by the elements and the rows of a batch.

    A multiprocessor works on one tile of 128 queries at a time, where it has three of 64 with ``forward_kernel``, and
    the host needs 40 us for a call instead of 25 (descriptors, the counter). Time on an H100 as a multiple of
    ``forward_kernel``'s, causal, bfloat16, rows of log-normal lengths:

    ========================= ======================= =====
    rows x median, heads      queries x heads         times
    ========================= ======================= =====
    16 x 256, 4               16,000                  1.31
    16 x 256, 8               32,000                  1.07
    16 x 512, 4               32,000                  1.09
    16 x 1024, 4              64,000                  0.89
    16 x 512, 16              127,000                 0.80
    16 x 2048, 4              127,000                 0.79
    16 x 4096, 16             1,018,000               0.71
    1024 x 32, 16             595,000                 0.95
    512 x 64, 16              614,000                 0.82
    256 x 128, 16             628,000                 0.76
    ========================= ======================= =====
    """
    return queries * heads >= LEAST_WORK and min(queries, keys) >= LEAST_LENGTH * batch
