"""Which tile sizes a call runs with: those that were tuned on this machine, else those of the tables.

Never searched for at a call, unless the environment variable ``SCREE_TUNE`` asks for it.
"""

from __future__ import annotations

import torch

from scree_triton.attention import configs, tuned
from scree_triton.attention.configs import Setting, Tile
from scree_triton.launch import INTERPRETED
from scree_triton.power_of_2 import power_of_2
from scree_triton.switches import is_on

AT_FIRST_CALL = is_on("SCREE_TUNE")
"""Whether each new setting is tuned at its first call."""


def setting_of(kind: str, q: torch.Tensor, v: torch.Tensor, causal: bool) -> Setting:
    """Return the setting of a kernel for q, k and v."""
    return Setting(kind, power_of_2(max(q.shape[2], v.shape[2])), q.element_size(), causal)


def choose(setting: Setting, mean: float, device: torch.device) -> Tile:
    """Return the tile for rows of a mean length on a device."""
    architecture = configs.architecture_of(device)
    if device.type == "cuda" and not INTERPRETED:
        found = tuned.find(configs.name_of(setting, mean), device, architecture)
        if found is not None:
            return Tile(*found)
    return configs.default(setting, mean, architecture)
