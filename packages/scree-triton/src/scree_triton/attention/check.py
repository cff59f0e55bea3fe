"""Whether a compiled kernel computes right numbers here: tried on a few small rows, before it is first used.

Compilers make mistakes that no test of the source can find: ptxas 12.8 made wrong code of two of these kernels for some
head dimensions alone. So each variant is compared with the torch backend in float64 when it is compiled, in some
milliseconds beside the seconds of its compilation, and those that were right are noted on disk for the device, the
compilers and the text of the kernels. ``SCREE_TRITON_CHECK=0`` leaves it out.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from scree_core.errors import ScreeError
from scree_torch.varlen_attention import varlen_attention as composite
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import configs, tuned
from scree_triton.attention.batch import Batch
from scree_triton.attention.given import Given
from scree_triton.attention.told import LOG2E, planes
from scree_triton.launch import INTERPRETED

WANTED = os.environ.get("SCREE_TRITON_CHECK", "1").lower() not in ("0", "false", "off", "no", "n")
FILE = "triton-checked-1.txt"
QUERIES, KEYS = (1, 0, 293, 70), (5, 3, 317, 0)
"""Lengths of rows: of more than two blocks and a bit, of less than one, of one and none."""
MOST = {torch.float16: 1e-2, torch.bfloat16: 4e-2, torch.float32: 1e-4}
"""Relative errors that rounding doesn't reach, and wrong code does."""

_here = threading.local()
_right: set[str] | None = None


class MiscompiledError(ScreeError, RuntimeError):
    """A kernel gives wrong numbers on this device: it isn't used."""


def check(
    name: str,
    constants: Any,
    given: Given,
    run: Callable[[Given], tuple[torch.Tensor | None, ...]],
    wanted: Callable[[Given], tuple[torch.Tensor | None, ...]],
) -> None:
    """Compare what a kernel gives with what it should, unless that was done before.

    Parameters
    ----------
    name : str
        Of the kernel.
    constants : object
        What else it is compiled for than follows from the arrays: its text is part of what it is noted by.
    given : Given
        The call.
    run, wanted : callable
        Return results of the kernel, and of ``composite``, for a small call that is alike.

    Raises
    ------
    MiscompiledError
        They differ by more than rounding.

    Notes
    -----
    Waits for the device. Nothing happens while a CUDA graph is captured, and in the interpreter.
    """
    if not _is_due(given):
        return
    note = _note(name, constants, given)
    if note in _known():
        return
    with _undisturbed():
        small = _small(given)
        error = _error(run(small), wanted(small))
    q, v = given.q, given.v
    if not error <= MOST[q.dtype]:
        raise MiscompiledError(
            f"the kernel {name!r} gives wrong numbers here: a relative error of {error:.1e} in a trial with head_dim "
            f"{q.shape[2]}, head_dim_v {v.shape[2]} and {q.dtype}, on {_environment(q)}. Another version of "
            'Triton may compile it rightly; backend="torch" does without it; SCREE_TRITON_CHECK=0 skips this check'
        )
    _keep(note)


def _is_due(given: Given) -> bool:
    """Tell whether kernels are tried now: not in a trial, and where results can be waited for."""
    busy = getattr(_here, "busy", False)
    if not WANTED or INTERPRETED or busy or not given.q.is_cuda or torch.cuda.is_current_stream_capturing():
        return False
    # Kernels are compiled anew for strides of more than 32 bits.
    return not any(stride >= 2**31 for x in given.arrays if x is not None for stride in x.stride())


def forward_wanted(small: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and lse as they should be."""
    out, lse = _composite(small, small.q.double(), small.k.double(), small.v.double(), _double(small.sinks))
    return out, lse.t()


def backward_wanted(small: Given) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients of q, k, v and the sinks as they should be."""
    leaves = [x.double().requires_grad_() for x in (small.q, small.k, small.v)]
    sinks = None if small.sinks is None else small.sinks.double().requires_grad_()
    with torch.enable_grad():
        out, lse = _composite(small, leaves[0], leaves[1], leaves[2], sinks)
    pairs = [(out, small.d_out), (lse, small.d_lse)]
    outputs, upstream = zip(*((x, d.double()) for x, d in pairs if d is not None), strict=True)
    inputs = leaves if sinks is None else [*leaves, sinks]
    found = torch.autograd.grad(outputs, inputs, upstream, allow_unused=True)
    # What a sink has of the lse alone is nothing.
    return *found[:3], None if sinks is None else found[3]


def found_by_composite(small: Given) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return output, lse and stats as forward should have left them, for a trial of backward alone."""
    out, lse = forward_wanted(small)
    whole = lse if small.sinks is None else torch.logaddexp(lse, small.sinks.double()[:, None])
    top = torch.where(lse == -math.inf, math.inf, whole * LOG2E)
    stats = torch.stack([top, (top < math.inf).double()][: planes(small.q.element_size())])
    return out.to(small.q.dtype), lse.float().contiguous(), stats.float().contiguous()


def _composite(
    small: Given, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    batch = small.batch
    return composite(q, k, v, batch.q_offsets, batch.k_offsets, *batch.maxima, sinks, small.options)


def _double(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x.double()


def _small(given: Given) -> Given:
    """Return a call that is alike but for its rows, and the numbers in its options."""
    q, k, v, d_out, d_lse, sinks, batch, options = given
    generator = torch.Generator(q.device).manual_seed(0)
    lengths = QUERIES, QUERIES if batch.k_offsets is batch.q_offsets else KEYS
    totals = sum(lengths[0]), sum(lengths[1])

    # Of heads a kernel is only told how many share keys.
    kv_heads = min(k.shape[1], 2)
    heads = q.shape[1] // k.shape[1] * kv_heads

    def drawn(x: torch.Tensor | None, *sizes: int) -> torch.Tensor | None:
        return None if x is None else _like(x, (*sizes, *x.shape[2:]), generator)

    def offsets(lengths: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        host = torch.tensor([0, *lengths]).cumsum(0)
        return host.to(like)

    q_offsets = offsets(lengths[0], batch.q_offsets)
    k_offsets = q_offsets if lengths[1] is lengths[0] else offsets(lengths[1], batch.k_offsets)
    small = Batch(q_offsets, k_offsets, max(lengths[0]), max(lengths[1]))
    return Given(
        drawn(q, totals[0], heads),  # pyrefly: ignore
        drawn(k, totals[1], kv_heads),  # pyrefly: ignore
        drawn(v, totals[1], kv_heads),  # pyrefly: ignore
        drawn(d_out, totals[0], heads),
        drawn(d_lse, totals[0], heads),
        drawn(sinks, heads),
        small,
        _moderate(options, q.shape[2]),
    )


def _moderate(options: Options, head_dim: int) -> Options:
    """Return options for which kernels are compiled alike, and by whose numbers nothing cancels or overflows."""
    causal, scale, (left, right), softcap = options
    scale = math.copysign(head_dim**-0.5, scale) if scale else 0.0
    return Options(causal, scale, (min(left, 0) or 90, min(right, 0) or 40), None if softcap is None else 5.0)


def _like(x: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return numbers that lie in memory as those of x: in strides and an address of which Triton thinks the same."""
    strides, reach = [0] * len(shape), 1
    for axis in sorted(range(len(shape)), key=lambda axis: x.stride(axis)):
        stride = x.stride(axis)
        least = stride if stride in (0, 1) else max(2, reach)
        strides[axis] = next(n for n in range(least, least + 32) if math.gcd(n, 16) == math.gcd(stride, 16))
        reach = max(reach, strides[axis] * shape[axis])
    start = x.data_ptr() % 16 // x.element_size()
    memory = torch.randn(start + reach, generator=generator, device=x.device)
    return memory.to(x.dtype).as_strided(shape, strides, start)


def _error(found: tuple[torch.Tensor | None, ...], wanted: tuple[torch.Tensor | None, ...]) -> float:
    """Return the largest relative error of results, in the mean square; NaN where one is NaN and shouldn't.

    What their dtype can't hold doesn't count: at its largest numbers rounding decides, as below its smallest.
    """
    errors = [torch.zeros((), dtype=torch.float64)]
    for x, y in zip(found, wanted, strict=True):
        if x is None or y is None:
            continue
        holds = torch.finfo(x.dtype)
        x, size = x.double(), torch.where(y.isfinite(), y, 0.0)
        off = torch.where((x == y) | (size.abs() > holds.max / 2), 0.0, x - y)  # infinities too
        errors.append((off.norm() / size.norm().clamp_min(holds.tiny * math.sqrt(y.numel()))).cpu())
    return float(torch.stack(errors).max())


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the user's settings out of it, and other trials."""
    mode = torch.cuda.get_sync_debug_mode() if torch.cuda.is_initialized() else 0
    if mode:
        torch.cuda.set_sync_debug_mode(0)
    _here.busy = True
    try:
        with torch.no_grad(), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _here.busy = False
        if mode:
            torch.cuda.set_sync_debug_mode(mode)


def _environment(x: torch.Tensor) -> str:
    return tuned.environment(x.device, configs.architecture_of(x.device))


def _note(name: str, constants: Any, given: Given) -> str:
    """Return a short name of all that the machine code depends on."""
    arrays = [
        None
        if x is None
        else (x.dtype, x.shape[1:], [n if n < 2 else math.gcd(n, 16) for n in x.stride()], x.data_ptr() % 16)
        for x in given.arrays
    ]
    batch = given.batch
    lies = batch.k_offsets is batch.q_offsets, batch.q_offsets.dtype, batch.k_offsets.dtype
    told = _environment(given.q), name, constants, arrays, lies
    return hashlib.sha256(repr(told).encode()).hexdigest()[:24]


def _known() -> set[str]:
    """Return the notes of variants that were right."""
    global _right
    if _right is None:
        _right = set()
        with contextlib.suppress(OSError, RuntimeError, UnicodeError):  # then all are tried again
            _right.update(tuned.path().with_name(FILE).read_text(encoding="utf-8").split())
    return _right


def _keep(note: str) -> None:
    _known().add(note)
    with contextlib.suppress(OSError, RuntimeError):  # no folder that can be written: the next process tries again
        where = tuned.path().with_name(FILE)
        where.parent.mkdir(parents=True, exist_ok=True)
        with where.open("a", encoding="utf-8") as file:
            file.write(note + "\n")  # one line at a time is written whole
