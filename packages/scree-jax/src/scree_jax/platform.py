"""What kind of device a call will run on."""

from __future__ import annotations

import jax


def platform_of(x: jax.Array) -> str:
    """Return ``"cpu"``, ``"gpu"`` or ``"tpu"``: where an array is, or for a tracer where JAX computes by default."""
    if isinstance(x, jax.core.Tracer):
        return jax.default_backend()
    return next(iter(x.devices())).platform
