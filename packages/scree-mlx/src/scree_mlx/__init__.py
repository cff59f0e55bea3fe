"""The MLX backend of scree: eager ops and gradients on Apple GPUs, CUDA and CPUs.

Importing this imports no MLX; scree loads ``scree_mlx.backend`` when it meets the first MLX array.
"""

__version__ = "0.1.0"
