"""What surrounds the steps: batches, processes, seeds, transfers, signals and monitoring."""
