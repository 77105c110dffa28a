"""Used by all other packages: settings, registry, errors, units, events and run folders. Does not import torch."""
