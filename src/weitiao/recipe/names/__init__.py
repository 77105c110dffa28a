"""Understands setting names of other tools: one table of names, and the code that reads settings under them."""
