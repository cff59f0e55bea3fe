"""What is said where a part of scree needs a package that isn't installed."""

from __future__ import annotations

from scree_core.errors import BackendNotInstalledError


def not_installed(
    error: ModuleNotFoundError, needing: str, library: str, module: str, package: str, extras: str
) -> BackendNotInstalledError:
    """Return what to raise, or raise the error itself where something is installed and broken.

    Parameters
    ----------
    error : ModuleNotFoundError
        What importing the package ended in.
    needing : str
        The part of scree.
    library, module : str
        The library that it needs, and what that is imported as.
    package : str
        scree's package for it, such as ``"scree_torch"``.
    extras : str
        The extras of ``scree`` that install both.
    """
    lacking = (error.name or "").split(".")[0]
    if lacking not in (module, package):
        raise error
    return BackendNotInstalledError(
        f"{needing} needs {library} and {package.replace('_', '-')}, but there is no {lacking}.\n"
        f'    pip install "scree[{extras}]"'
    )
