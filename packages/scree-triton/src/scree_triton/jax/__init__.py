"""The kernels on JAX arrays, called through jax-triton. No PyTorch is needed, and none is imported."""
