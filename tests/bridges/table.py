"""The table at the end of ``docs/bridges.md``: each bridge is crossed, and what became of memory is measured.

``python tests/bridges/table.py --write`` measures the bridges whose libraries are installed and writes their lines; the
lines of others stay as they are. So a whole table takes several environments, one after another.
"""

from __future__ import annotations

import argparse
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from .crossings import CROSSINGS
    from .crossings.crossing import Crossing
else:
    from crossings import CROSSINGS
    from crossings.crossing import Crossing

from scree_core.registry import backend_of

PAGE = Path(__file__).parents[2] / "docs" / "bridges.md"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
HEAD = ["| system | | bridge | values | offsets | gradient | tested with |", "|" + " --- |" * 7]


def lacking(crossing: Crossing) -> list[str]:
    """Return the modules that a crossing needs and that aren't there."""
    return [module for module in crossing.modules if util.find_spec(module) is None]


def version(crossing: Crossing) -> str:
    """Return the library and its version, without what tells one build of it from another (``+cpu``)."""
    return f"{crossing.distribution} {metadata.version(crossing.distribution).split('+')[0]}"


def measured(crossing: Crossing) -> list[str]:
    """Cross a bridge with int32 and with int64 offsets, and return the cells of its line but for the version."""
    narrow, wide = (_crossed(crossing, dtype) for dtype in ("int32", "int64" if crossing.source != "jax" else "int32"))
    facts = [a if a == b else f"int32 {a}, int64 {b}" for a, b in zip(narrow, wide, strict=True)]
    return [*crossing.key, f"`{crossing.bridge}`", *facts]


def _crossed(crossing: Crossing, dtype: str) -> tuple[str, str, str]:
    values, offsets = _source(crossing.source, dtype)
    found = crossing.cross(values, offsets)
    of_jax = crossing.source == "jax"
    gradient = _gradient_of_jax(crossing, values, offsets) if of_jax else _gradient(*found.values)
    return _values(*found.values), _offsets(*found.offsets), gradient


def _source(library: str, dtype: str) -> tuple[Any, Any]:
    """Return values of five elements and the offsets of rows of two and of three, as arrays of a library."""
    values, offsets = np.arange(1, 11, dtype=np.float32).reshape(5, 2), np.array([0, 2, 5], dtype)
    if library == "numpy":
        return values, offsets
    if library == "jax":
        import jax.numpy as jnp

        return jnp.asarray(values), jnp.asarray(offsets)
    import torch

    values, offsets = torch.from_numpy(values), torch.from_numpy(offsets)
    return (values[:, 0].contiguous().long() if library == "torch ids" else values.requires_grad_()), offsets


def _values(before: Any, after: Any) -> str:
    if after is None:
        return "-"
    return _shared(after) if before is not None and _address(before) == _address(after) else "copied"


def _offsets(before: Any, after: Any) -> str:
    """Tell the same numbers elsewhere (copied) from others that say the same of the rows (made)."""
    if after is None:
        return "-"
    if before is None:
        return "made"
    if _address(before) == _address(after):
        return _shared(after)
    same = np.array_equal(backend_of(before).to_numpy(before), backend_of(after).to_numpy(after))
    return "copied" if same else "made"


def _shared(x: Any) -> str:
    return "shared, read-only" if isinstance(x, np.ndarray) and not x.flags.writeable else "shared"


def _address(x: Any) -> int:
    """Return where an array's memory begins."""
    for name in ("data_ptr", "unsafe_buffer_pointer"):
        if hasattr(x, name):
            return getattr(x, name)()
    return backend_of(x).to_numpy(x).ctypes.data


def _gradient(before: Any, after: Any) -> str:
    if not getattr(before, "requires_grad", False):
        return "-"
    if not getattr(after, "requires_grad", False):
        return "stops" if after is not None else "-"
    import torch

    (gradient,) = torch.autograd.grad(after.sum(), before)
    return "kept" if gradient.any() else "stops"


def _gradient_of_jax(crossing: Crossing, values: Any, offsets: Any) -> str:
    import jax

    gradient = jax.grad(lambda x: crossing.cross(x, offsets).values[1].sum())(values)
    return "kept" if gradient.any() else "stops"


def on_page() -> dict[tuple[str, str], list[str]]:
    """Return the cells of each line of the table in ``docs/bridges.md``, by system and direction."""
    table = PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("|") and line not in HEAD]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {(row[0], row[1]): row for row in rows}


def write() -> None:
    """Write the lines of what is installed into the page."""
    known, lines = on_page(), list(HEAD)
    for crossing in CROSSINGS:
        missing = lacking(crossing)
        row = known.get(crossing.key) if missing else [*measured(crossing), version(crossing)]
        print(f"{crossing}: {f'there is no {missing[0]}' if missing else '; '.join(row[3:])}")
        if row:
            lines.append(f"| {' | '.join(row)} |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{START}\n\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", required=True, help="write docs/bridges.md")
    parser.parse_args()
    write()
