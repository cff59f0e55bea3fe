"""The kernels of attention with their parameters in JAX's order."""
