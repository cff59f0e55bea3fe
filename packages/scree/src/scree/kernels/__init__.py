"""Other names for scree's ops, for code that asks for one implementation of them.

New code calls ``scree.varlen_attention`` and the rest, which choose the fastest that can run, and takes
``backend=`` where it wants a certain one.

``scree.kernels.reference``
    The reference that every backend is measured against, on Arrays of any library.
``scree.kernels.triton``
    The Triton kernels, on raw CUDA tensors.
"""

from scree.kernels import reference, triton

__all__ = ["reference", "triton"]
