"""Triton kernels for scree on PyTorch and JAX.

Importing this imports neither Triton nor either of these; scree loads ``scree_triton.overlay`` when it meets the first
tensor, and ``scree_triton.jax.overlay`` when it meets the first JAX array.
"""

__version__ = "0.1.0"
