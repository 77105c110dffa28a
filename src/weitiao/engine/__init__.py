"""The training engine: loop, packing, attention, optimizers, checkpoints. It names no method and no objective."""
