"""How training runs: the loop, its packs and attention, optimizers, checkpoints; no method or objective by name."""
