"""Functions whose gradient is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import mlx.core as mx

Fn = TypeVar("Fn", bound=Callable[..., Any])


def custom_gradient(
    vjp: Callable[[Any, Any, Any], Any], vmap: Callable[[Any, Any, Any], Any] | None = None
) -> Callable[[Fn], Fn]:
    """Return a decorator that gives a function of arrays a gradient, as ``mx.custom_function`` knows it.

    Parameters
    ----------
    vjp : callable
        ``vjp(primals, cotangents, outputs)`` returns one gradient for each primal, zeros for integers. Each of
        the three is a bare array where there is one, else a tuple.
    vmap : callable, optional
        ``vmap(function, inputs, axes)`` returns the outputs and their mapped axes, by a call of the decorated
        function. Without it MLX (0.32) forgets the gradient under ``mx.vmap`` and takes that of the function's own
        steps, which must be right then, if less exact.

    Notes
    -----
    Made of differentiable steps, the gradient can be differentiated again. Forward mode takes the function's own
    steps.
    """

    def decorate(fn: Fn) -> Fn:
        custom = mx.custom_function(fn)
        custom.vjp(vjp)
        if vmap is not None:
            custom.vmap(lambda inputs, axes: vmap(custom, inputs, axes))
        return cast("Fn", custom)

    return decorate
