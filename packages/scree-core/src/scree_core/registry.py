"""Which backend owns an array type: found by name through entry points, loaded when first met.

An entry point's name is the root module of the array type it serves (``torch``), or the dotted name of
an overlay (``torch.triton``). So the backend of an array is found without importing any library: walk
the type's bases, and look their root modules up among the installed names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from scree_core import array_api, programs
from scree_core.backend import CONTRACT, OPS, Backend
from scree_core.errors import ArgumentTypeError, BackendLoadError, BackendNotInstalledError
from scree_core.numpy_backend import NumpyBackend
from scree_core.overlay import Overlay

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "scree.backends"
EXTRAS = {
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "mlx": "mlx",
    "torch.triton": "torch,triton",
    "jax.triton": "jax,triton",
}
"""What to install for a root module or backend name that scree knows of."""
ALIASES = {"jaxlib": "jax"}
"""Root modules of array types that are released under another name."""


class Candidates(NamedTuple):
    """Who may run a call on one array type: the overlays by priority, and the base that always can."""

    base: Backend[Any]
    overlays: tuple[Overlay, ...]


_by_type: dict[type, Candidates] = {}
_loaded: dict[str, Backend[Any] | Overlay] = {}
_found: dict[str, Callable[[], Any]] | None = None


def candidates(array_type: type) -> Candidates:
    """Return the backend and overlays that serve an array type.

    Raises
    ------
    BackendNotInstalledError
        No installed backend owns such arrays; the message says what to install.
    BackendLoadError
        One does, but it, or an overlay on it, can't be loaded.
    ArgumentTypeError
        It is NumPy's masked array: scree's functions would take what its mask hides for data.
    """
    try:
        return _by_type[array_type]
    except KeyError:
        return _resolve(array_type)


def backend_of(x: object) -> Backend[Any]:
    """Return the backend that owns the array ``x``; raises as ``candidates`` does."""
    return candidates(type(x)).base


def _resolve(array_type: type) -> Candidates:
    names = installed()
    for base in array_type.__mro__:
        root, *inner = base.__module__.split(".")
        if root == "numpy" and inner[:1] == ["ma"]:
            raise ArgumentTypeError(
                f"a {array_type.__name__} has a mask, which scree would lose: fill it, x.filled(value), or take x.data "
                "where nothing is masked; of a padded batch take what isn't, "
                "scree.from_padded(x.data, ~numpy.ma.getmaskarray(x))"
            )
        name = ALIASES.get(root, root)
        if name in names:
            found = _candidates_named(name)
            _by_type[array_type] = found
            return found
    for base in array_type.__mro__:
        if base.__module__.split(".", 1)[0] not in EXTRAS and (backend := array_api.backend_for(base)) is not None:
            _offer(backend)
            _by_type[array_type] = found = _candidates_named(backend.name)
            return found
    raise BackendNotInstalledError(_no_backend_for(array_type))


def _offer(backend: Backend[Any]) -> None:
    """Let a backend without an entry point be found by its name."""
    global _found
    _found = {**installed(), backend.name: lambda: lambda: backend}  # not in place: others may be going through it


def _is_installed(name: str) -> bool:
    """Tell whether a backend or overlay of that full name is installed, or a library that needs none of its own."""
    if name not in installed() and name not in EXTRAS and (backend := array_api.backend_named(name)) is not None:
        _offer(backend)
    return name in installed()


def _candidates_named(name: str) -> Candidates:
    overlays = [load(other) for other in installed() if other.startswith(name + ".")]
    overlays.sort(key=lambda overlay: -overlay.priority)
    return Candidates(load(name), tuple(overlays))


def _no_backend_for(array_type: type) -> str:
    roots = [base.__module__.split(".", 1)[0] for base in array_type.__mro__]
    if roots[0] == "builtins":
        return f"a {array_type.__qualname__} is no array; convert it first, say with numpy.asarray"
    known = next((root for root in roots if root in EXTRAS), None)
    if known:
        mend = f'    pip install "scree[{EXTRAS[known]}]"'
    else:
        mend = (
            f"    Install a package that offers the entry point {roots[0]!r} in the group {GROUP!r}, "
            "or convert the arrays to NumPy."
        )
    return f"no scree backend is installed for {roots[0]}.{array_type.__qualname__}.\n{mend}\n{_installed_line()}"


def installed() -> dict[str, Callable[[], Any]]:
    """Return the loader of each installed backend and overlay by its name, NumPy first; imports none of them."""
    global _found
    if _found is None:
        # Imported here: it takes longer than the rest of scree, which may be imported for its types alone.
        from importlib.metadata import entry_points

        plugins: dict[str, set[EntryPoint]] = {}
        for point in entry_points(group=GROUP):
            plugins.setdefault(point.name, set()).add(point)
        _found = {"numpy": lambda: NumpyBackend} | {name: _loader(plugins[name]) for name in sorted(plugins)}
    return _found


def _loader(points: set[EntryPoint]) -> Callable[[], Any]:
    """Return what loads a plugin; of two that claim one name, neither is taken."""
    values = sorted({point.value for point in points})

    def refuse() -> Any:
        raise ImportError(f"two installed packages offer it, {' and '.join(values)}; uninstall one of them")

    return refuse if len(values) > 1 else next(iter(points)).load


def load(name: str) -> Any:
    """Return the one instance of the backend or overlay of that full name, loading it if need be.

    Raises
    ------
    BackendNotInstalledError
        None of that name is installed.
    BackendLoadError
        Importing or making it failed, or it was written for another contract.
    """
    if name in _loaded:
        return _loaded[name]
    if not _is_installed(name):
        mend = f'\n    pip install "scree[{EXTRAS[name]}]"' if name in EXTRAS else ""
        raise BackendNotInstalledError(f"no scree backend {name!r} is installed.{mend}\n{_installed_line()}")
    try:
        plugin = installed()[name]()()
    except Exception as error:
        raise BackendLoadError(
            f"the scree backend {name!r} is installed but can't be loaded: {type(error).__name__}: {error}\n"
            f"Repair it, or uninstall it to go without."
        ) from error
    _check(name, plugin)
    return _loaded.setdefault(name, plugin)  # another thread may have been first


def _check(name: str, plugin: Any) -> None:
    kind = Overlay if "." in name else Backend
    if not isinstance(plugin, kind):
        raise BackendLoadError(f"the entry point {name!r} gave a {type(plugin).__name__}, not a {kind.__name__}")
    own = getattr(plugin, "name", None)
    if own != name:
        raise BackendLoadError(
            f"the entry point {name!r} gave a backend that calls itself {own!r}; its name must be {name!r}"
        )
    if isinstance(plugin, Backend) and plugin.contract != CONTRACT:
        raise BackendLoadError(
            f"the backend {name!r} is written for contract {plugin.contract}, this scree has {CONTRACT}: "
            "upgrade the older of the two"
        )


def _installed_line() -> str:
    return f"Installed backends: {', '.join(installed())}."


def full_name(name: str) -> str:
    """Return the full name of a backend or overlay: ``"cudnn"`` is short for ``"jax.cudnn"``.

    ``"triton"`` is short for two, and which of them runs a call is decided by its arrays. The first is returned whose
    library has a backend here.

    Raises
    ------
    BackendNotInstalledError
        No installed one matches.
    """
    short = _full_names(name) or ([name] if _is_installed(name) else [])
    if not short:
        known = [full for full in EXTRAS if name in (full, full.split(".")[-1])]
        mend = f'\n    pip install "scree[{EXTRAS[known[0]]}]"' if known else ""
        raise BackendNotInstalledError(f"no scree backend {name!r} is installed.{mend}\n{_installed_line()}")
    return short[0]


def _full_names(name: str) -> list[str]:
    """Return every installed backend or overlay that a name stands for, those first that have a backend to lie over."""
    if name in installed():
        return [name]
    short = [full for full in installed() if full.split(".")[-1] == name]
    return sorted(short, key=lambda full: not has_base(full))


def has_base(name: str) -> bool:
    """Tell whether the backend that an overlay lies over is installed too; a backend lies over itself."""
    return name.split(".")[0] in installed()


def preload(*names: str) -> None:
    """Load backends and their overlays now rather than when their first array is met.

    Discovering entry points can't be traced: call this before the first compiled call if no array was
    made before it. Without names, every installed backend is loaded.

    Parameters
    ----------
    *names : str
        Backend names such as ``"torch"``; of an overlay, that of its backend. One that is short for several means all
        whose library has a backend here.

    Raises
    ------
    BackendNotInstalledError, BackendLoadError
        As for ``load``.
    """
    for name in names or [full for full in installed() if "." not in full]:
        first = full_name(name)
        for full in [first, *(other for other in _full_names(name)[1:] if has_base(other))]:
            found = _candidates_named(full.split(".")[0])
            for array_type in found.base.array_types():
                _by_type[array_type] = found


def capabilities(plugin: Backend[Any] | Overlay) -> dict[str, str]:
    """Return how each op of the contract is provided: ``"native"``, ``"default"``, or absent."""
    found = {}
    for op in OPS:
        method = getattr(type(plugin), op, None)
        if method is not None:
            found[op] = "default" if method is getattr(Backend, op) else "native"
    return found


@contextlib.contextmanager
def installed_for(array_type: type, backend: Backend[Any], *overlays: Overlay) -> Iterator[None]:
    """Let a backend serve its array types for a while, without an entry point. For tests.

    Parameters
    ----------
    array_type : type
        The type whose arrays it serves, in place of whoever did. Others that resolve to its name, such as
        tracers, go to it too.
    backend : Backend
        The base backend.
    *overlays : Overlay
        Its overlays on ``array_type``, in the order in which they are asked.
    """
    by_type, loaded = dict(_by_type), dict(_loaded)
    for known in [known for known, found in _by_type.items() if found.base.name == backend.name]:
        del _by_type[known]
    _by_type[array_type] = Candidates(backend, overlays)
    _loaded[backend.name] = backend
    programs.forget()
    try:
        yield
    finally:
        programs.forget()
        _by_type.clear()
        _by_type.update(by_type)
        _loaded.clear()
        _loaded.update(loaded)
