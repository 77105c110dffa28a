"""Weight files: reading, converting and verifying them."""
