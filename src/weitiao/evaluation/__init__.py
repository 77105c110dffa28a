"""What a trained model says: generation, answers before and after, the report and the adapter's card."""
