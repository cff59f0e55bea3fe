"""An Array of any library as one of a library that follows the array API standard."""

from __future__ import annotations

from typing import Any

from scree_core.array import Array
from scree_core.array_api import ArrayApiBackend
from scree_core.bridges.memory import detached, on_same_rows, refuse_to_share
from scree_core.dlpack import UNSHARED


def to_array_api(arr: Array[Any], target: ArrayApiBackend, *, copy: bool | None) -> Array[Any]:
    """Return the Array with a library's arrays for values and offsets, as ``convert`` does.

    Parameters
    ----------
    arr : Array
        Of any library.
    target : ArrayApiBackend
        The library.
    copy : bool or None
        True copies the values. None shares memory by DLPack, but for what its library takes for immutable and for
        read-only memory, and copies else. False shares these too, or raises.

    Returns
    -------
    Array
        On the device of ``arr`` where the library has it, else on its default device.

    Raises
    ------
    UnsupportedError
        ``copy`` is False and the library can't take the memory; or it doesn't have the dtype.

    Notes
    -----
    Gradients stop here. Syncs a device.
    """
    if arr.backend is target:
        if not copy:
            return arr
        return Array.trusted(target.namespace.asarray(arr.values, copy=True), arr.layout, arr.ragged_dim)
    arr.backend.synchronize(arr.values)
    values = _taken(arr.values, arr, target, copy)
    offsets = _taken(arr.offsets, arr, target, None)
    return on_same_rows(arr, values, offsets, arr.layout.host)


def _taken(x: Any, arr: Array[Any], target: ArrayApiBackend, copy: bool | None) -> Any:
    source = arr.backend
    owned = copy or (copy is None and (source.immutable or _is_read_only(x)))
    try:
        taken = target.namespace.from_dlpack(detached(x))
    except UNSHARED as error:
        if copy is False:
            raise refuse_to_share(source.name, target.name, str(error).split("\n")[0]) from error
        return target.from_numpy(source.to_numpy(x))
    return target.namespace.asarray(taken, copy=True) if owned else taken


def _is_read_only(x: Any) -> bool:
    return not getattr(getattr(x, "flags", None), "writeable", True)
