"""Data read, checked, split and stored once, before anything is trained on it."""
