"""What benchmarks of a GPU have in common: their options, and what they run on."""

from __future__ import annotations

import argparse

import torch
from triton_attention import environment


def options(description: str | None, *, rounds: int, seconds: int) -> argparse.Namespace:
    """Read the options, and stop where there is no GPU."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"runs of each candidate (default {rounds})")
    parser.add_argument("--json", action="store_true", help="also write the figures to benchmarks/results/")
    parser.add_argument(
        "--seconds", type=int, default=seconds, help=f"stop then, with what there is (default {seconds})"
    )
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here, and these are a GPU's figures")
    return chosen


def accelerator() -> str:
    """Return the GPU, and the versions that its figures depend on."""
    where = environment()
    return f"{where['device']}, driver {where['driver']}, Triton {where['triton']}, ptxas {where['ptxas']}"
