"""Fixtures of core's own tests."""

from __future__ import annotations

from typing import Any

import pytest

from scree_core import registry
from scree_core.numpy_backend import NumpyBackend
from scree_core.overlay import Overlay


@pytest.fixture
def plugins(monkeypatch):
    """Return a function that installs plugins by name, beside NumPy and in place of what is really installed.

    A plugin is a class as an entry point would load it, or an exception that loading it raises.
    """

    def install(found: dict[str, Any] | None = None) -> None:
        loaders = {name: _loader(plugin) for name, plugin in {"numpy": NumpyBackend, **(found or {})}.items()}
        monkeypatch.setattr(registry, "_found", loaders)
        monkeypatch.setattr(registry, "_loaded", {})
        monkeypatch.setattr(registry, "_by_type", {})

    install()
    return install


def _loader(plugin: Any) -> Any:
    def load() -> Any:
        if isinstance(plugin, Exception):
            raise plugin
        return plugin

    return load


@pytest.fixture
def overlay():
    """Return a function that makes an overlay over NumPy, which notes the ops it runs and does what NumPy does."""

    def make(full_name: str, *ops: str, rank: int = 0, reason: str | None = None) -> Any:
        class Noting(Overlay):
            name = full_name
            priority = rank
            ran: list[str] = []  # noqa: RUF012
            asked: list[tuple[Any, ...]] = []  # noqa: RUF012

            def why_not(self, op, /, *args, **kwargs):
                self.asked.append((op, args, kwargs))
                return reason

            def version(self):
                return "1.2"

        def method(op: str) -> Any:
            def run(self, *args, **kwargs):
                self.ran.append(op)
                return getattr(NumpyBackend(), op)(*args, **kwargs)

            return run

        for op in ops:
            setattr(Noting, op, method(op))
        return Noting

    return make
