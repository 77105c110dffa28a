"""Attention inside a pack: who sees whom, and the kernels that compute it."""
