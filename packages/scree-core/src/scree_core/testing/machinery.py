"""How a suite finds its cases, puts them on a device, calls the op, and keeps the ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import scree_core
from scree_core.backend import OPS, Backend
from scree_core.dispatch import refusal
from scree_core.explain import prepared
from scree_core.overlay import Overlay
from scree_core.registry import installed_for
from scree_core.testing.case import Case
from scree_core.testing.cases import CASES, ERRORS
from scree_core.testing.compiling import compiles
from scree_core.testing.ledger import SHARED, Entry, ledger_of, never_run
from scree_core.testing.placing import float_leaves, is_float
from scree_core.testing.public import call_public, outputs
from scree_core.testing.tails import takes_a_tail
from scree_core.testing.truth import DIFFERENTIABLE

PACKAGE = "scree_core.testing"


class Machinery:
    """What the suites for backends and for overlays have in common."""

    backend: ClassVar[type[Backend[Any]]]
    """The backend's class."""
    array_type: ClassVar[type | None] = None
    """The array type it is to serve here; by default that of its arrays."""
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """Devices to run on; see ``has_device`` and ``on_device``."""
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    """Floating dtypes to run in; float32 must be among them, for halves alone hide a wrong eps."""
    defers: ClassVar[bool] = True
    """Whether the library's arrays leave operators with unknown types on their right to these, as Python asks."""
    compiles: ClassVar[bool] = False
    """Whether ``compiled`` is overridden: the library compiles functions of arrays."""
    overlay: ClassVar[type[Overlay] | None] = None
    """The overlay's class, in a suite for an overlay."""
    _entries: ClassVar[dict[str, Entry]]
    _dtypes: ClassVar[dict[Any, list[str]]]
    _shared: ClassVar[bool] = False
    _plugin: ClassVar[Backend[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._dtypes = {}
        if cls.__module__.startswith(PACKAGE):
            return
        suite = next(base for base in cls.__mro__ if base.__module__.startswith(PACKAGE))
        overridden = [n for n in dir(suite) if n.startswith("test_") and getattr(cls, n, None) is not getattr(suite, n)]
        if overridden:
            raise TypeError(f"{cls.__name__} must not override or delete tests of the suite: {', '.join(overridden)}")
        if "dtypes" in vars(cls) and "float32" not in cls.dtypes:
            raise TypeError(f"{cls.__name__}.dtypes must have float32 among them, got {cls.dtypes}")

    # ------------------------------------------------------------------ what a suite may override

    def has_device(self, device: str) -> bool:
        """Tell whether a device is there; override together with ``on_device``."""
        return device == "cpu"

    def on_device(self, a: np.ndarray, device: str) -> Any:
        """Return the library's array of these values on a device."""
        return self.plugin().from_numpy(a)

    @contextlib.contextmanager
    def poisoned_memory(self) -> Iterator[None]:
        """Fill uninitialised memory with NaN while a case runs, where the library has a way."""
        yield

    def compiled(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of raw arrays compiled by the library, whole or not at all: offsets are arguments."""
        raise NotImplementedError

    # ------------------------------------------------------------------ machinery

    @classmethod
    def plugin(cls) -> Backend[Any]:
        """Return the one instance of the backend."""
        if "_plugin" not in vars(cls):
            cls._plugin = cls.backend()
        return cls._plugin

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Spread cases over ops, devices and dtypes."""
        names = metafunc.fixturenames
        ops = cls.ops()
        if "error_case" in names:
            cases = [case for op in ops for case in ERRORS.get(op, ())]
            metafunc.parametrize("error_case", cases, ids=[case.id for case in cases])
        if "case" in names:
            test = metafunc.function.__name__
            wanted = [case for op in ops for case in CASES[op] if cls.takes(case, test)]
            few = "compiled" in test and not metafunc.config.getoption("--every-dtype", False)
            pairs = [(case, dtype) for case in wanted for dtype in cls.dtypes_for(case, few=few)]
            params = [pytest.param(case, dtype, id=f"{case.id}-{dtype}") for case, dtype in pairs]
            lacks = "compile" if "compiled" in test and not cls.compiles else "differentiate"
            none = pytest.mark.skip(reason=f"{cls.backend.name!r} does not {lacks}")
            metafunc.parametrize(("case", "dtype"), params or [pytest.param(None, "", id="none", marks=none)])
        if "device" in names:
            present = [device for device in cls.devices if cls().has_device(device)]
            every = metafunc.function.__name__ == "test_device_is_there"
            metafunc.parametrize("device", cls.devices if every or not present else present)

    @classmethod
    def ops(cls) -> tuple[str, ...]:
        """Return the ops to test."""
        return tuple(op for op in OPS if cls.overlay is None or hasattr(cls.overlay, op))

    @classmethod
    def takes(cls, case: Case, test: str) -> bool:
        """Tell whether a test applies to a case."""
        if "poisoned" in test and "poison" not in case.tags:
            return False
        if "tail" in test and not takes_a_tail(case):
            return False
        if "compiled" in test and not (cls.compiles and compiles(case)):
            return False
        if "gradient" in test:
            differentiable = case.op in DIFFERENTIABLE and not case.integer
            return cls.plugin().differentiates and differentiable and "forward_only" not in case.tags
        return True

    @classmethod
    def dtypes_for(cls, case: Case, *, few: bool) -> tuple[str, ...]:
        """Return the dtypes to run a case in: with ``few``, all of them in a case or two an op, else float32."""
        if case.integer:
            return ("int",)
        return cls.dtypes if not few or case.name.endswith("mixed") else ("float32",)

    @pytest.fixture(autouse=True)
    def _installed(self, request: pytest.FixtureRequest) -> Iterator[None]:
        cls = type(self)
        cls._entries = ledger_of(request.config).setdefault(f"{cls.__module__}.{cls.__name__}", {})
        cls._shared = request.config.stash.get(SHARED, False)
        overlays = [cls.overlay()] if cls.overlay else []
        plugin = self.plugin()
        array_type = self.array_type or type(plugin.from_numpy(np.zeros(1, np.float32)))
        with installed_for(array_type, plugin, *overlays):
            yield

    @classmethod
    def teardown_class(cls) -> None:
        """Fail if every case of some op was skipped; of several processes, the plugin does so when all are done."""
        never = never_run(getattr(cls, "_entries", {}))
        assert not never or cls._shared, f"no case ran of {never}"

    @pytest.fixture
    def place(self, device: str) -> Any:
        """Put a NumPy array on the device under test."""
        if not self.has_device(device):
            pytest.skip(f"the device {device!r} isn't there")
        return lambda a: self.on_device(a, device)

    def entry(self, op: str) -> Entry:
        """Return the ledger's entry of an op."""
        return self._entries.setdefault(op, Entry())

    def skip_refused(self, op: str, arguments: dict[str, Any], entry: Entry) -> None:
        """Skip a call that the plugin says it can't run."""
        if op not in scree_core.ops.__all__:
            return
        plugin = self.overlay() if self.overlay else self.plugin()
        reason = refusal(plugin, prepared(op, **arguments))
        if reason is not None:
            entry.skipped[reason] = entry.skipped.get(reason, 0) + 1
            pytest.skip(reason)

    def run(self, op: str, arguments: dict[str, Any]) -> Any:
        """Call an op on the plugin under test."""
        with self.poisoned_memory():
            result = self.call(op, arguments)
            self.plugin().synchronize(outputs(result))
        return result

    def call(self, op: str, arguments: dict[str, Any]) -> Any:
        """Call an op as a user does."""
        return call_public(op, arguments, self.overlay.name if self.overlay else None)

    def numbers(self, x: Any) -> np.ndarray:
        """Return an array of the library as NumPy numbers to compare: floats in float64."""
        host = self.plugin().to_numpy(x)
        return host.astype(np.float64) if is_float(host) else host

    def _arrays(self, arguments: dict[str, Any]) -> list[Any]:
        raw = [leaf for argument in arguments.values() for leaf in float_leaves(argument)]
        return [leaf for leaf in raw if self.plugin().owns(leaf)]
