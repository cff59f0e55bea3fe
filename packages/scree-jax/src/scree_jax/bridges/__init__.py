"""Ways between a ``scree.Array`` and JAX's own representations."""

from scree_jax.bridges.jax import to_jax

__all__ = ["to_jax"]
