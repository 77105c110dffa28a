"""The bridge to PEFT: attaching, saving, loading, switching off and merging adapters."""
