"""The PyTorch backend of scree: eager, differentiable, on whatever device PyTorch has.

Importing this imports no PyTorch; scree loads ``scree_torch.backend`` when it meets the first tensor.
"""

__version__ = "0.1.0"
