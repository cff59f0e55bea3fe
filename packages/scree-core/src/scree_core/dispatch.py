"""From a checked call to the backend that runs it.

The order of choice: the ``backend=`` argument, then ``use_backend``, then the environment variable
``SCREE_BACKEND`` (read when scree is imported), else the first overlay that takes the call, else the
array's own backend. Naming a backend means that one or an error, never another in its place.
"""

from __future__ import annotations

import contextlib
import os
from _thread import allocate_lock  # what threading.Lock is, without the import of threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

from scree_core.backend import Backend
from scree_core.errors import ShapeError, UnsupportedError
from scree_core.overlay import Overlay
from scree_core.registry import candidates, full_name, load

ENVIRONMENT = os.environ.get("SCREE_BACKEND") or None

_chosen: ContextVar[str | None] = ContextVar("scree_backend", default=None)
# torch.compile can't trace a ContextVar read, so it is read only while some use_backend block is open.
_open_choices = 0
_counting = allocate_lock()


class Call(NamedTuple):
    """A checked call: the op, and what its method receives."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    arrays: dict[str, Any]
    """The raw arrays that decide who runs it, by the argument names that users know."""


def run(call: Call, backend: str | None = None) -> Any:
    """Run a call on the backend of that name, or on the best that takes it, and return raw arrays.

    Raises
    ------
    UnsupportedError
        The backend that was named, or the arrays' own, can't run this call; the message has its reason.
    BackendNotInstalledError
        No backend of that name, or none for these arrays, is installed.
    ShapeError
        The arrays belong to different libraries, or are on different devices.
    """
    return getattr(choose(call, backend), call.op)(*call.args, **call.kwargs)


def choose(call: Call, backend: str | None = None) -> Backend[Any] | Overlay:
    """Return who runs a call; raises as ``run`` does."""
    found = common_candidates(call.arrays)
    name = selected() if backend is None else backend
    if name is not None:
        return _named(name, call, found, " (asked for by SCREE_BACKEND)" if name is ENVIRONMENT else "")
    for overlay in found.overlays:
        offered = hasattr(overlay, call.op) and not overlay.named_only
        if offered and overlay.why_not(call.op, *call.args, **call.kwargs) is None:
            return overlay
    reason = found.base.why_not(call.op, *call.args, **call.kwargs)
    if reason is not None:
        raise UnsupportedError(f"backend {found.base.name!r} can't run {call.op}: {reason}")
    return found.base


def bind(call: Call, backend: str | None = None) -> Callable[..., Any]:
    """Return what runs calls of the form of this one: given their arguments without the options, which are settled.

    Raises as ``run`` does. See ``programs``.
    """
    plugin = choose(call, backend)
    program = plugin.bind(call.op, *call.args, **call.kwargs)
    if program is not None:
        return program
    options = {name: value for name, value in call.kwargs.items() if name not in call.arrays}
    return partial(getattr(plugin, call.op), **options)


def common_candidates(arrays: dict[str, Any]) -> Any:
    """Return who may run a call on these arrays; raise where they are of different libraries or devices."""
    types = iter(arrays.items())
    first_name, first = next(types)
    found = candidates(type(first))
    for name, other in types:
        if type(other) is not type(first) and candidates(type(other)).base is not found.base:
            raise ShapeError(
                f"{first_name} and {name} belong to different libraries: "
                f"{type(first).__name__} ({found.base.name}) and {type(other).__name__} "
                f"({candidates(type(other)).base.name}); convert one of them"
            )
        if not found.base.beside(first, other):
            raise ShapeError(elsewhere(found.base, first_name, first, name, other))
    return found


def elsewhere(backend: Backend[Any], first_name: str, first: Any, name: str, other: Any) -> str:
    """Return what is wrong with two arrays on different devices."""
    return (
        f"{first_name} and {name} are on different devices, {backend.device(first)} and {backend.device(other)}; "
        "move one of them"
    )


def _named(name: str, call: Call, found: Any, origin: str) -> Backend[Any] | Overlay:
    plugins = (found.base, *found.overlays)
    plugin = next((p for p in plugins if name in (p.name, p.name.rsplit(".", 1)[-1])), None)
    if plugin is None:
        owner = load(full_name(name).split(".")[0])
        raise UnsupportedError(
            f"backend {name!r}{origin} can't run {call.op}: it works on arrays of {owner.name!r}, "
            f"these belong to {found.base.name!r}; convert them, or name one of "
            f"{', '.join(p.name for p in plugins)}"
        )
    reason = refusal(plugin, call)
    if reason is not None:
        raise UnsupportedError(f"backend {name!r}{origin} can't run {call.op}: {reason}")
    return plugin


def refusal(plugin: Backend[Any] | Overlay, call: Call) -> str | None:
    """Return why a plugin can't run a call, or None where it can."""
    reason = plugin.why_not(call.op, *call.args, **call.kwargs)
    return reason if reason is not None or hasattr(plugin, call.op) else f"it has no {call.op}"


def selected() -> str | None:
    """Return the backend name that ``use_backend`` or ``SCREE_BACKEND`` asks for, if any."""
    return (_chosen.get() if _open_choices else None) or ENVIRONMENT


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the ``with`` block on the backend of this name, or fail.

    Parameters
    ----------
    name : str
        A backend or overlay, such as ``"torch"`` or ``"triton"``.

    Raises
    ------
    BackendNotInstalledError
        None of that name is installed; on entering the block.

    Notes
    -----
    The choice follows the context (thread or task) that made it. While a block is open, compiled
    ``torch`` code breaks its graph to read it: there use the ops' ``backend=`` argument instead.

    Examples
    --------
    >>> import numpy as np, scree
    >>> x = scree.from_lengths(np.zeros(3), [1, 2])
    >>> with scree.use_backend("numpy"):
    ...     y = scree.varlen_softmax(x)
    """
    global _open_choices
    full_name(name)
    token = _chosen.set(name)
    with _counting:
        _open_choices += 1
    try:
        yield
    finally:
        with _counting:
            _open_choices -= 1
        _chosen.reset(token)
