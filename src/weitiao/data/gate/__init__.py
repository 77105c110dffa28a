"""The data gate: reads, checks, splits and stores the data once, before training."""
