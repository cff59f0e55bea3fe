"""Kernels for Hopper, in Gluon, and what runs before and behind them."""
