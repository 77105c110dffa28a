"""The data pipeline: finds, reads and checks the user's data, tokenizes it with one loss weight per token, and orders
it into batches."""
