"""Whether a tensor holds real values just now, or stands for some under a trace or transform.

The only place that asks PyTorch's private modules; its tests fail when one of the names goes.
"""

from __future__ import annotations

import torch

PLAIN = (torch.Tensor, torch.nn.Parameter)


def in_transform() -> bool:
    """Tell whether this runs inside ``torch.func.grad``, ``vmap`` or the like, where every result is wrapped."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def settled() -> bool:
    """Tell whether what is computed from ordinary tensors now are such too.

    False while compiling, inside the transforms of ``torch.func``, and under a dispatch mode (fake tensors,
    ``make_fx``).
    """
    # The first comes first, so that a compiler follows nothing of the rest.
    return not torch.compiler.is_compiling() and not in_transform() and torch._C._len_torch_dispatch_stack() == 0


def is_real(x: torch.Tensor) -> bool:
    """Tell whether ``x``, and what is computed from it now, are ordinary tensors with values, of no subclass."""
    return settled() and type(x) in PLAIN
