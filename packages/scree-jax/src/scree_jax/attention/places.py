"""Where the queries and keys of a batch sit: the integers that every way to compute attention is given."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Places(NamedTuple):
    """What the offsets of queries and keys, causal and window come to."""

    k_lo: jax.Array
    """First key that each query sees, ``(total_q,)``."""
    k_hi: jax.Array
    """One past the last key that each query sees, ``(total_q,)``; not above ``k_lo`` where it sees none."""
    q_ids: jax.Array
    """Row number of each query, ``(total_q,)``."""
    k_ids: jax.Array
    """Row number of each key, ``(total_k,)``."""
