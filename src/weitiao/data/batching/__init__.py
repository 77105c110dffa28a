"""Chooses the examples of each step, and packs them."""
