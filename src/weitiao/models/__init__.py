"""Models: resolving a name, loading weights, and finding the parts of a model."""
