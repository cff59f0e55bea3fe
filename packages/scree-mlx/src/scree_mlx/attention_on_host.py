"""Attention through NumPy's BLAS, on MLX arrays in the memory where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from scree_core.numpy_backend.attention import varlen_attention
from scree_mlx.attention_blas import attention_gradients
from scree_mlx.attention_on_rectangles import Options
from scree_mlx.convert import has_values
from scree_mlx.custom_gradient import custom_gradient

Attend = Callable[..., tuple[mx.array, mx.array]]
"""From q, k, v and perhaps sinks to the output and the log-sum-exp."""


def on_host(lazily: Attend, q_offsets: np.ndarray, k_offsets: np.ndarray, options: Options) -> Attend:
    """Return attention by NumPy, which evaluates its arguments, with gradients by NumPy.

    Parameters
    ----------
    lazily : callable
        The same function in MLX: for the gradient of the gradient, forward mode, and a gradient taken inside a
        function transformation that gives cotangents no values.
    q_offsets, k_offsets : int array of shape (batch + 1,)
    options : Options

    Notes
    -----
    NumPy reads the arguments where MLX has them; MLX copies the results once.
    """
    keywords = options._asdict()

    def backward_lazily(d_out: mx.array, d_lse: mx.array, *arrays: mx.array) -> Any:
        return mx.vjp(lazily, list(arrays), [d_out, d_lse])[1]

    def backward_of_backward(primals: Any, cotangents: Any, outputs: Any) -> Any:
        return mx.vjp(backward_lazily, list(primals), list(cotangents))[1]

    @custom_gradient(backward_of_backward)
    def backward(d_out: mx.array, d_lse: mx.array, *arrays: mx.array) -> list[mx.array]:
        q, k, v, sinks = _hosts(*arrays)
        upstream = np.asarray(d_out), np.asarray(d_lse)
        with np.errstate(all="ignore"):
            grads = attention_gradients(*upstream, q, k, v, q_offsets, k_offsets, sinks=sinks, **keywords)
        return [_from_host(g) for g in grads if g is not None]

    def pull(primals: Any, cotangents: Any, outputs: Any) -> Any:
        given = (*cotangents, *primals)
        return backward(*given) if has_values(*given) else backward_lazily(*given)

    def forward(*arrays: mx.array) -> tuple[mx.array, mx.array]:
        q, k, v, sinks = _hosts(*arrays)
        with np.errstate(all="ignore"):  # MLX doesn't warn of NaN and infinities
            out, lse = varlen_attention(q, k, v, q_offsets, k_offsets, sinks=sinks, **keywords)
        return _from_host(out), _from_host(lse)

    attend: Any = mx.custom_function(forward)
    attend.vjp(pull)
    attend.jvp(lambda primals, tangents: mx.jvp(lazily, list(primals), list(tangents))[1])
    return attend


def _hosts(
    q: mx.array, k: mx.array, v: mx.array, sinks: mx.array | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    return np.asarray(q), np.asarray(k), np.asarray(v), None if sinks is None else np.asarray(sinks)


def _from_host(a: np.ndarray) -> mx.array:
    return mx.array(a, dtype=mx.float64 if a.dtype == np.float64 else mx.float32)
