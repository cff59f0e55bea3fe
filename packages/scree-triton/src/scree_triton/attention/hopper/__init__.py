"""Big calls on Hopper, which have kernels of their own: which they are, and how these are launched."""
