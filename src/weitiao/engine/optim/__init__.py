"""Optimizers, learning-rate schedules and the precision of the arithmetic."""
