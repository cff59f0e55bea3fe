"""Variable-length attention by Triton kernels, forward and backward.

Importing this imports no library: ``entry`` is PyTorch's way in, ``scree_triton.jax`` that of JAX, and neither needs
the other's. The kernels, and what they are told, are for both.
"""
