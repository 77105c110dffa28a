"""Fitting a step into memory: planned beforehand, and redone in smaller packs where it did not fit."""
