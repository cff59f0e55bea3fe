"""The tiles that are worth trying for a kernel, when somebody tunes it."""

from __future__ import annotations

from scree_triton.attention.configs import Setting, Tile

# Queries, keys, warps, stages, registers. Short lists: each entry costs a compilation of seconds.
FORWARD = {
    32: "64x64x4x3x96 64x64x4x3x80 64x64x4x4x96 64x64x4x2x96 64x128x4x3x128 64x32x4x4x80 128x64x8x3x80 128x128x8x2",
    64: "64x64x4x3x128 64x64x4x2x128 64x64x4x4 64x128x4x2 64x32x4x4x96 128x64x4x2 128x64x4x3 128x64x8x3x128",
    128: "64x64x4x3 64x64x4x2 64x32x4x3 64x32x4x4 64x128x4x2 128x64x8x3 128x64x8x2 128x128x8x2 128x32x8x3",
    256: "64x32x8x2 64x32x4x2 64x32x4x3 64x64x8x2 128x32x8x2 128x32x8x3 128x32x8x4 128x64x8x2 128x64x8x3",
}
QUERIES = {
    32: "64x64x4x3 64x64x4x4 64x64x4x2 64x32x4x4 64x32x4x3 64x128x4x2 128x32x4x3 128x64x8x3",
    64: "64x64x4x3 64x64x4x2 64x32x4x4 64x32x4x3 64x128x4x2 128x32x4x3 128x64x8x3 128x64x8x2",
    128: "64x64x4x2 64x64x4x3 64x32x4x3 64x32x4x4 64x32x4x2 128x64x8x3 128x64x8x2 128x32x8x3 128x32x8x4",
    256: "64x16x8x2 64x32x8x2 64x32x4x2 64x16x4x2 128x32x8x2 128x32x8x3 128x16x8x2 128x64x8x2",
}
KEYS = {
    32: "32x64x4x3 32x64x4x4 32x64x4x2 16x64x4x4 64x64x4x2 64x64x4x3 32x128x8x3 64x128x8x2",
    64: "32x64x4x3 32x64x4x4 32x64x4x2 16x64x4x4 64x64x4x2 32x128x8x3 64x128x8x2",
    128: "32x64x4x3 32x64x4x2 32x64x4x4 16x64x4x4 16x64x4x3 32x128x8x3 32x128x8x2 64x128x8x2",
    256: "32x32x4x2 32x32x4x3 32x32x4x1 16x32x4x2 64x32x4x2 32x64x8x2 32x64x8x1 64x64x8x1",
}
HALVES = {"forward": FORWARD, "queries": QUERIES, "keys": KEYS}
EXACT = {
    16: "64x32x8x2 64x32x4x2 32x32x4x2 64x64x8x2 128x32x8x2 64x32x8x1 32x64x8x2",
    64: "64x32x8x2 64x32x8x1 32x32x8x2 32x32x4x2 64x64x8x2 128x32x8x2 64x16x8x2 32x64x8x2",
    128: "32x32x8x1 32x32x8x2 64x32x8x1 64x16x8x1 64x16x8x2 32x16x8x1 32x64x8x1",
    256: "32x16x8x1 16x16x8x1 32x32x8x1 16x32x8x1 64x16x8x1",
}
"""For float32, whose products take no tensor cores: one list for all kernels."""
ROCM = "64x64x4x1 64x32x4x1 32x32x4x1 32x64x4x1 128x64x4x1 128x32x4x1 128x64x8x1 64x64x4x2 32x32x4x2 16x16x4x1"
"""One list for all: nobody has measured there yet."""


def candidates(setting: Setting, architecture: str, default: Tile) -> list[Tile]:
    """Return the tiles to try for a setting, first the one that it has.

    In float32 the block that is summed over is never shorter than in the one that it has: how often sums are
    added up decides their rounding, which has a budget.
    """
    if architecture.startswith("gfx"):
        names = ROCM
    else:
        by_width = EXACT if setting.itemsize == 4 else HALVES[setting.kind]
        names = by_width[min(by_width, key=lambda width: (width < setting.width, width))]
    found = [Tile(*map(int, name.split("x"))) for name in names.split()]
    if setting.itemsize == 4:
        summed = "block_m" if setting.kind == "keys" else "block_n"
        found = [tile for tile in found if getattr(tile, summed) >= getattr(default, summed)]
    return list(dict.fromkeys([default, *found]))
