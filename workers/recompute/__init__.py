"""Recompute: kernels that answer pure requests in warm processes."""
