"""Attention within rows, by the fastest way for where it runs.

* On a GPU, and on a Mac's CPU: ``mx.fast.scaled_dot_product_attention`` on rectangles, one for each group of rows of
  similar length. It knows no cap and gives no log-sum-exp; with these, the formula on the same rectangles.
* On other CPUs, through NumPy: MLX's own products run at a tenth of its BLAS's speed there. For 16 log-normal rows of
  mean 256, 8 heads x 64, causal, float32, one thread: 67 ms, where ``mx.fast`` takes 690 by row and 2,970 padded.
  NumPy needs values, so this evaluates the arguments.
* Under ``mx.compile`` and ``mx.vmap``, where arrays have no values, on rectangles on any device: those of the groups
  if the Array was made outside, a single one as wide as ``max_length`` if its offsets are arguments.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from scree_core.errors import UnsupportedError
from scree_core.layout import Layout
from scree_mlx import rectangles
from scree_mlx.attention_on_host import on_host
from scree_mlx.attention_on_rectangles import Options, by_fast, by_formula, visible
from scree_mlx.convert import has_values
from scree_mlx.rectangles import HostOffsets, Rectangles

OP = "varlen_attention"


def blas_is_faster() -> bool:
    """Tell whether NumPy's products are faster than MLX's where ops run now: on CPUs without Apple's Accelerate."""
    return sys.platform != "darwin" and mx.default_device().type == mx.cpu


class Plan(NamedTuple):
    """The same rows' queries and keys on rectangles."""

    q: Rectangles
    k: Rectangles
    aligned: bool
    """Whether every row has as many keys as queries."""


def varlen_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    q_layout: Layout[mx.array],
    k_layout: Layout[mx.array],
    host_offsets: HostOffsets,
    *,
    sinks: mx.array | None,
    options: Options,
    return_lse: bool,
) -> tuple[mx.array, mx.array | None]:
    """Return the output ``(total_q, heads, head_dim_v)`` in the dtype of q, and the log-sum-exp if asked.

    Halves go to ``mx.fast`` as they are on a GPU, whose kernels add up in float32, and become float32 elsewhere.
    """
    dtype = q.dtype
    # In float64 mx.fast is no more precise than in float32; and for a scale of 0 cuDNN gives NaN.
    needs_formula = return_lse or options.softcap is not None or options.scale == 0 or dtype == mx.float64
    if dtype != mx.float64 and (needs_formula or mx.default_device().type == mx.cpu):
        q, k, v = (x.astype(mx.float32) for x in (q, k, v))
    arrays = (q, k, v) if sinks is None else (q, k, v, sinks.astype(q.dtype))

    def formula(*arrays: mx.array) -> tuple[mx.array, mx.array]:
        plan = _plan(q_layout, k_layout, q.shape[0], k.shape[0], host_offsets)
        return _by_formula(plan, options, *arrays)

    if blas_is_faster() and has_values(*arrays, q_layout.offsets, k_layout.offsets):
        out, lse = on_host(formula, host_offsets(q_layout), host_offsets(k_layout), options)(*arrays)
    elif needs_formula:
        out, lse = formula(*arrays)
    else:
        plan = _plan(q_layout, k_layout, q.shape[0], k.shape[0], host_offsets)
        out, lse = _by_fast(plan, options, *arrays), None
    return out.astype(dtype), lse if return_lse else None


def _by_fast(
    plan: Plan, options: Options, q: mx.array, k: mx.array, v: mx.array, sinks: mx.array | None = None
) -> mx.array:
    nothing = mx.zeros((), dtype=q.dtype)
    if not plan.q.rectangles:
        return mx.broadcast_to(nothing, (*q.shape[:2], v.shape[2]))
    outs = []
    for q_part, k_part, v_part, mask in _parts(plan, options, q, k, v):
        outs.append(by_fast(q_part, k_part, v_part, sinks, mask, options.scale, all_see=plan.aligned))
    return plan.q.collect(outs, nothing)


def _by_formula(
    plan: Plan, options: Options, q: mx.array, k: mx.array, v: mx.array, sinks: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    nothing, unseen = mx.zeros((), dtype=q.dtype), mx.array(-math.inf, dtype=q.dtype)
    if not plan.q.rectangles:
        return mx.broadcast_to(nothing, (*q.shape[:2], v.shape[2])), mx.broadcast_to(unseen, q.shape[:2])
    results = []
    for q_part, k_part, v_part, mask in _parts(plan, options, q, k, v):
        results.append(by_formula(q_part, k_part, v_part, sinks, mask, options.scale, options.softcap))
    outs, lses = zip(*results, strict=True)
    return plan.q.collect(list(outs), nothing), plan.q.collect(list(lses), unseen)


def _parts(
    plan: Plan, options: Options, q: mx.array, k: mx.array, v: mx.array
) -> Iterator[tuple[mx.array, mx.array, mx.array, mx.array | str | None]]:
    pairs = zip(plan.q.rectangles, plan.k.rectangles, strict=True)
    masks = [visible(of_q, of_k, options, aligned=plan.aligned) for of_q, of_k in pairs]
    return zip(plan.q.spread(q), plan.k.spread(k), plan.k.spread(v), masks, strict=True)


def _plan(
    q_layout: Layout[mx.array], k_layout: Layout[mx.array], q_total: int, k_total: int, host_offsets: HostOffsets
) -> Plan:
    """Lay out the rows: in groups if the offsets can be read, which is then kept with the layout of the queries."""
    aligned = q_layout.same(k_layout) is True
    try:
        q_offsets, k_offsets = host_offsets(q_layout), host_offsets(k_layout)
    except UnsupportedError:
        of_q = rectangles.on_device(q_layout, q_total, OP)
        of_k = of_q if aligned and q_total == k_total else rectangles.on_device(k_layout, k_total, OP)
        return Plan(of_q if of_k.rectangles else of_q._replace(rectangles=[]), of_k, aligned)

    def grouped() -> Plan:
        groups = rectangles.grouped(np.diff(q_offsets), np.diff(k_offsets))
        of_q = rectangles.on_host(q_offsets, groups, q_total)
        same = aligned and q_total == k_total
        return Plan(of_q, of_q if same else rectangles.on_host(k_offsets, groups, k_total), aligned)

    return q_layout.derived(("attention plan", k_layout, q_total, k_total), grouped)
