"""Layers of our own methods, in the form PEFT loads and saves."""
