"""What the products of _peak.py are called, for the page, which imports no torch."""

LIBRARIES = ("mkl", "onednn")
BY = " by "
"""Between what is multiplied and the library that does."""
