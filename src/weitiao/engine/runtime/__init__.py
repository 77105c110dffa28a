"""Everything around the steps: batches, distributed processes, seeds, transfers, signals and monitoring."""
