"""How a row becomes text and token ids with a loss weight each: templates, encoding, truncation."""
