"""Reports the gate's findings, in the terminal and as an HTML page."""
