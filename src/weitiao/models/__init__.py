"""Models: what a name means, how weights come into memory, and where the parts of a model are."""
