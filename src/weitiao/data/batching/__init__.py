"""Which examples a step sees, and how they are laid end to end."""
