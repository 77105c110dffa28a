"""Attention within a pack: its layout, masks and kernels."""
