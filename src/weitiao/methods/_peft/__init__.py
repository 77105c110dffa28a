"""The bridge to PEFT: the only place that imports it for its own methods."""
