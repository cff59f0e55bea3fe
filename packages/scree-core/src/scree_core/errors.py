"""The errors scree raises: each says what is wrong, what was expected, and how to mend it.

All derive from ``ScreeError``, and each also from the built-in exception a caller would expect,
so ``except ValueError`` and ``except ImportError`` keep working.
"""

from __future__ import annotations


class ScreeError(Exception):
    """Base of every error that scree raises on purpose."""


class ArgumentError(ScreeError, ValueError):
    """An argument has a value that the function can't take."""


class ShapeError(ArgumentError):
    """Values, offsets, shapes or dtypes don't fit together."""


class ArgumentTypeError(ScreeError, TypeError):
    """An argument is of a type that the function can't take."""


class BackendNotInstalledError(ScreeError, ImportError):
    """No installed backend owns arrays of this type, or none has the name that was asked for."""


class BackendLoadError(ScreeError, ImportError):
    """A backend is installed but can't be loaded; the cause is chained."""


class UnsupportedError(ScreeError, NotImplementedError):
    """The backend that was asked for by name can't run this call; the message gives its reason."""
