"""What scree adds to a call: choosing who runs it, which may take 3 us, and the checks and wrapping around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from harness import Row, arguments, at_most, medians, report

import scree
from scree_core.dispatch import choose
from scree_core.explain import prepared

GOAL_US = 3
CALLS = 2_000
"""Calls in one measurement: one alone is too short to be timed."""

X = scree.from_lengths(np.ones((8, 2, 4), np.float32), [3, 5])
OPS = {
    "varlen_softmax": ((X,), {}),
    "varlen_rmsnorm": ((X,), {}),
    "varlen_sum": ((X,), {}),
    "varlen_attention": ((X, X, X), {"causal": True}),
}


def per_call(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each candidate's median time for one call, in ms."""

    def many(run: Callable[[], object]) -> Callable[[], None]:
        def repeated() -> None:
            for _ in range(CALLS):
                run()

        return repeated

    return {name: ms / CALLS for name, ms in medians({n: many(r) for n, r in candidates.items()}, rounds).items()}


def choosing(rounds: int) -> list[Row]:
    """Time the choice alone, once every type has been met."""
    table = []
    for op, (args, options) in OPS.items():
        call = prepared(op, *args, **options)
        ms = per_call({"choose": lambda call=call: choose(call), "nothing": lambda: None}, rounds)
        goal = at_most(GOAL_US, ms["choose"] * 1e3, " us")
        table.append(Row(f"choose for {op}", ms["choose"], "a call of nothing", ms["nothing"], goal))
    return table


def whole_ops(rounds: int) -> list[Row]:
    """Time whole ops on 8 elements, next to the backend's method alone."""
    table = []
    for op, (args, options) in OPS.items():
        call = prepared(op, *args, **options)
        method = getattr(choose(call), op)
        ms = per_call(
            {
                "op": lambda op=op, args=args, options=options: getattr(scree, op)(*args, **options),
                "method": lambda method=method, call=call: method(*call.args, **call.kwargs),
            },
            rounds,
        )
        table.append(Row(f"scree.{op}", ms["op"], "the method it calls", ms["method"]))
    return table


if __name__ == "__main__":
    options = arguments(__doc__)
    tables = {
        "Choosing who runs a call": choosing(options.rounds),
        "Whole ops on 8 elements": whole_ops(options.rounds),
    }
    report("dispatch", tables, write=options.json)
