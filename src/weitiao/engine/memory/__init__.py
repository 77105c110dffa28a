"""Memory planning before training, ways to save memory, and detection of out-of-memory errors."""
