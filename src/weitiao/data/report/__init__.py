"""What the gate found, for the terminal and as a page."""
