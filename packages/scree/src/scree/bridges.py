"""Ways between a ``scree.Array`` and other representations of a ragged batch.

Importing this imports no framework; the functions for PyTorch import it when they are called.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from scree_core.array import Array
from scree_core.bridges import from_hf_padded, to_hf_padded, to_numpy
from scree_core.errors import BackendNotInstalledError

if TYPE_CHECKING:
    import torch

__all__ = ["from_hf_padded", "from_torch_nested", "to_hf_padded", "to_numpy", "to_torch", "to_torch_nested"]


def to_torch(arr: Array[Any], device: torch.device | str | None = None) -> Array[torch.Tensor]:
    """Return the same rows as torch tensors.

    Parameters
    ----------
    arr : Array
        Of any library.
    device : torch.device or str, optional
        Where to put them; by default torch values stay where they are, others go to the CPU.

    Returns
    -------
    Array
        Of tensors, with the offsets' dtype kept.

    Raises
    ------
    BackendNotInstalledError
        PyTorch or scree-torch isn't installed.

    Notes
    -----
    ``scree_torch.bridges.to_torch``, which says what is shared and what is copied.
    """
    return _torch_bridges().to_torch(arr, device)


def to_torch_nested(arr: Array[Any]) -> torch.Tensor:
    """Return the rows as a nested tensor of layout ``torch.jagged``.

    Parameters
    ----------
    arr : Array
        Of any library.

    Returns
    -------
    torch.Tensor
        Nested, of shape ``(batch, *features)`` with the ragged axis at ``1 + ragged_dim``.

    Raises
    ------
    BackendNotInstalledError
        PyTorch or scree-torch isn't installed.

    Notes
    -----
    ``scree_torch.bridges.to_torch_nested``, which says what is shared and what is copied.
    """
    return _torch_bridges().to_torch_nested(arr)


def from_torch_nested(nested: torch.Tensor) -> Array[torch.Tensor]:
    """Return a nested tensor of layout ``torch.jagged`` as an Array.

    Parameters
    ----------
    nested : torch.Tensor
        Nested, of layout ``torch.jagged``.

    Returns
    -------
    Array
        A row for each of its components.

    Raises
    ------
    BackendNotInstalledError
        PyTorch or scree-torch isn't installed.
    ScreeError
        It is no nested tensor of that layout, or one with holes.

    Notes
    -----
    ``scree_torch.bridges.from_torch_nested``, which says what is shared and what is copied.
    """
    return _torch_bridges().from_torch_nested(nested)


def _torch_bridges() -> ModuleType:
    try:
        import scree_torch.bridges
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "scree_torch"):
            raise  # installed, but broken
        raise BackendNotInstalledError(
            f'this bridge needs PyTorch and scree-torch, but there is no {error.name}.\n    pip install "scree[torch]"'
        ) from error
    return scree_torch.bridges
