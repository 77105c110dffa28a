"""Combines the parts into a run: model, data, method, objective and training. Only this package imports them all."""
