"""Ways between a ``scree.Array`` and MLX's own representations."""

from scree_mlx.bridges.mlx import to_mlx

__all__ = ["to_mlx"]
