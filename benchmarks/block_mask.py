"""What a BlockMask for flex_attention costs: from offsets, against create_block_mask, which looks at every pair.

The goal is a fiftieth of its time at 5,000 tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Row, arguments, at_most, medians, report
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from workloads import log_normal

import scree
from scree.bridges import to_block_mask

GOAL = 1 / 50
TOKENS = (1_000, 5_000, 10_000)
TENSORS = [
    f"{full}{side}_{what}" for full in ("", "full_") for side in ("kv", "q") for what in ("num_blocks", "indices")
]


def documents(tokens: int) -> scree.Array:
    """Make rows as documents are long, cut off after so many tokens."""
    offsets = torch.tensor([0, *log_normal(tokens, mean=500, sigma=0.8)]).cumsum(0).clamp(max=tokens)
    return scree.Array(torch.empty(tokens), offsets[: int((offsets < tokens).sum()) + 1])


def candidates(arr: scree.Array, causal: bool, window: tuple[int, int] | None) -> dict[str, Callable[[], BlockMask]]:
    """Return scree's way, and PyTorch's with the mask_mod that its documentation shows for documents."""
    document, total = arr.segment_ids, arr.total_length
    left = total if window is None else window[0]

    def mask_mod(b, h, q_idx, kv_idx):
        seen = document[q_idx] == document[kv_idx]
        if causal:
            seen = seen & (q_idx >= kv_idx)
        return seen if window is None else seen & (q_idx - kv_idx <= left)

    return {
        "scree": lambda: to_block_mask(arr, causal=causal, window=window),
        "create_block_mask": lambda: create_block_mask(mask_mod, None, None, total, total, device="cpu"),
    }


def compare(tokens: int, rounds: int) -> list[Row]:
    """Time both ways for each kind of mask, after checking that they are equal index for index."""
    arr, rows = documents(tokens), []
    for name, causal, window in (("full", False, None), ("causal", True, None), ("window", True, (256, 0))):
        ways = candidates(arr, causal, window)
        ours, theirs = (way() for way in ways.values())
        if not all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in TENSORS):
            raise SystemExit(f"the {name} masks of {tokens:,} tokens differ: no figures")
        ms = medians(ways, rounds)
        goal = at_most(GOAL, ms["scree"] / ms["create_block_mask"]) if tokens == 5_000 else ""
        rows.append(Row(name, ms["scree"], "create_block_mask", ms["create_block_mask"], goal))
    return rows


if __name__ == "__main__":
    options = arguments(__doc__)
    tables = {f"{n:,} tokens in {len(documents(n))} rows": compare(n, options.rounds) for n in TOKENS}
    report("block-mask", tables, write=options.json, library="torch")
