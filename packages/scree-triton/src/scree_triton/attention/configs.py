"""Which tile sizes a kernel runs with by the tables, which are measured for some architectures."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

KINDS = ("forward", "queries", "keys")
"""The kernels that have tiles: the forward one, and those of backward by what their programs own."""


class Tile(NamedTuple):
    """What a kernel is compiled for: queries and keys of a block, warps, and stages of its pipeline."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    registers: int = 0
    """The most that a thread may have, so that one program more fits a multiprocessor; 0: as the compiler likes."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """What it is written as: without registers that are the compiler's choice."""
        return tuple(self) if self.registers else self[:4]

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told beside the kernel's constants."""
        more = {"maxnreg": self.registers} if self.registers else {}
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, **more}

    def __str__(self) -> str:
        return "x".join(map(str, self.numbers))


class Setting(NamedTuple):
    """What the choice depends on."""

    kind: str
    """One of ``KINDS``."""
    width: int
    """The larger of the head dimensions, up to the next power of 2."""
    itemsize: int
    """Bytes of an element."""
    causal: bool


def default(setting: Setting, mean: float, architecture: str) -> Tile:
    """Return the tile that the tables give for rows of a mean length on an architecture, such as ``"sm_90"``."""
    for least, tile in _table(setting, architecture):
        if mean >= least:
            return tile
    raise AssertionError(f"no tile for {setting}")


def name_of(setting: Setting, mean: float) -> str:
    """Return what a tuned tile is kept under: a name for all mean lengths between two powers of 2."""
    kind, width, itemsize, causal = setting
    return f"{kind} {width} {itemsize} {'causal' if causal else 'full'} {2 ** int(mean).bit_length() // 2}"


@functools.cache
def _table(setting: Setting, architecture: str) -> tuple[tuple[float, Tile], ...]:
    """Return tiles with the mean length from which they are taken, the longest first."""
    data = tables()
    for name in (architecture, _family(architecture)):
        rows = data.get(name, {}).get("tiles", [])
        found = [(row["mean"], Tile(*row["tile"])) for row in rows if _fits(row, setting)]
        if found:
            return tuple(sorted(found, key=lambda entry: -entry[0]))
    raise AssertionError(f"no tile for {setting} on {architecture}")


def _fits(row: dict[str, Any], setting: Setting) -> bool:
    wanted = setting._asdict()
    return all(row[name] == wanted[name] for name in ("kind", "width", "itemsize")) and row.get("causal") in (
        None,
        setting.causal,
    )


@functools.cache
def tables() -> dict[str, Any]:
    """Return the measured tables by architecture, and what they were measured on."""
    return json.loads(resources.files("scree_triton.attention").joinpath("tiles.json").read_text(encoding="utf-8"))


def _family(architecture: str) -> str:
    return "rocm" if architecture.startswith("gfx") else "cuda"


@functools.cache
def architecture_of(device: torch.device) -> str:
    """Return ``"sm_90"`` or ``"gfx942"``; on a CPU, where the interpreter runs, ``"interpreter"``."""
    if device.type != "cuda":
        return "interpreter"
    import torch  # here, for JAX looks up tiles too

    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return properties.gcnArchName.split(":")[0]
    return f"sm_{properties.major}{properties.minor}"
