"""Using a trained model elsewhere: merging it into a plain model."""
