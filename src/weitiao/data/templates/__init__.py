"""Renders rows into text and token ids with loss weights: templates, encoding, truncation."""
