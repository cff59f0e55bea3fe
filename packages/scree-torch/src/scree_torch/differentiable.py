"""The base of every op that brings its own gradient."""

from __future__ import annotations

import inspect
from typing import Any

import torch


class Differentiable(torch.autograd.Function):
    """An ``autograd.Function`` for autograd, ``torch.func`` and ``torch.compile`` alike.

    A subclass has static methods ``forward(...)``, ``setup_context(ctx, inputs, output)`` and ``backward(ctx, ...)``,
    all written in functional PyTorch operations. Then vmap needs no rule of its own, and a backward that is
    differentiable gives second derivatives.
    """

    generate_vmap_rule = True
    backward: Any
    """Takes as many cotangents as there are outputs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # PyTorch asks for the signature in every call, and finding it takes 40 us.
        cls.forward.__signature__ = inspect.signature(cls.forward)  # pyrefly: ignore[missing-attribute]
