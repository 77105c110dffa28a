"""Which implementation computes a product, a norm or a block."""
