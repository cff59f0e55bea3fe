"""The kernel for Hopper as JAX calls it: it describes its arrays to the copy engine itself.

The host can't, since XLA starts a kernel with pointers and numbers alone. Each program writes descriptions of its own
into memory that it is given for them, in a microsecond or two: see ``gluon_call``.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma

from scree_triton.attention.hopper import rule
from scree_triton.attention.kernels.hopper.forward import FAR, hopper_kernel

MOST = gl.constexpr(rule.MOST)
SCRATCH = 3 * 128
"""Bytes that each program's descriptions take."""


@gluon.jit
def _described(X, HEADS: gl.constexpr, D: gl.constexpr, BLOCK: gl.constexpr):
    """Describe an array ``(total, heads, D)`` of halves so that nothing is read behind a row's end.

    See ``attention.hopper.descriptions.describe``, which does it on the host.
    """
    LAYOUT: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=5)
    STRIDE: gl.constexpr = HEADS * D
    return tma.make_tensor_descriptor(
        X, [MOST, MOST, HEADS, FAR, D], [(1 << 34) - STRIDE, STRIDE, D, STRIDE, 1], [1, 1, 1, BLOCK, D], LAYOUT
    )


@gluon.jit
def hopper(
    Q, K, V, SINKS, Q_OFFSETS, K_OFFSETS, TILES, total, programs, factor, OUT, STATS, COUNTER, LSE,
    HAS_SINKS: gl.constexpr, HEADS: gl.constexpr, GROUP: gl.constexpr, RIGHT: gl.constexpr,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Write output, what backward needs of the denominators, and the lse; COUNTER is 0 at the start."""
    hopper_kernel(
        OUT, LSE, STATS, SINKS if HAS_SINKS else None, Q_OFFSETS, K_OFFSETS,
        TILES.to(gl.pointer_type(gl.int64), bitcast=True), COUNTER,  # JAX holds halves of the map's numbers
        _described(Q, HEADS, D, BLOCK_M // 2), _described(K, HEADS // GROUP, D, BLOCK_N),
        _described(V, HEADS // GROUP, D, BLOCK_N), total, HEADS, GROUP, programs, factor,
        RIGHT, BLOCK_M, BLOCK_N, D, STAGES,
    )  # fmt: skip
