"""The JAX backend of scree: ``scree.Array`` as a pytree, eager ops, and gradients.

Importing this imports no JAX; scree loads ``scree_jax.backend`` when it meets the first JAX array.
"""

__version__ = "0.1.0"
