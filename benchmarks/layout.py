"""What pack, to_padded, from_padded and unpack cost, against one plain copy of what they return.

No way to make that result can be much faster than copying it. The goal is 2.5 copies at most.
"""

from __future__ import annotations

import numpy as np
from harness import Row, arguments, at_most, medians, report
from workloads import LAYOUT, Layout

import scree

GOAL = 2.5


def compare(workload: Layout, rounds: int) -> list[Row]:
    """Time each op next to a copy of its result; round trips are checked first."""
    arr = scree.from_lengths(workload.values(), workload.lengths)
    rows = scree.unpack(arr)
    padded, mask = scree.to_padded(arr)
    assert np.array_equal(scree.from_padded(padded, mask).values, arr.values)
    assert np.array_equal(scree.pack(rows).values, arr.values)
    ops = {
        "pack": (lambda: scree.pack(rows), arr.values),
        "to_padded": (lambda: scree.to_padded(arr), padded),
        "to_padded, left": (lambda: scree.to_padded(arr, side="left"), padded),
        "to_padded, fill 1": (lambda: scree.to_padded(arr, fill_value=1), padded),
        "from_padded": (lambda: scree.from_padded(padded, mask), arr.values),
        "unpack": (lambda: scree.unpack(arr), arr.values),
    }
    table = []
    for name, (op, result) in ops.items():
        ms = medians({"scree": op, "copy": result.copy}, rounds)
        goal = at_most(GOAL, ms["scree"] / ms["copy"])
        table.append(Row(name, ms["scree"], f"copy of {result.nbytes / 1e6:,.0f} MB", ms["copy"], goal))
    return table


if __name__ == "__main__":
    options = arguments(__doc__, LAYOUT)
    tables = {f"{name}: {LAYOUT[name]}": compare(LAYOUT[name], options.rounds) for name in options.workload}
    report("layout", tables, write=options.json)
