"""Triton kernels for scree on PyTorch.

Importing this imports neither Triton nor PyTorch; scree loads ``scree_triton.overlay`` when it meets
the first tensor.
"""

__version__ = "0.1.0"
