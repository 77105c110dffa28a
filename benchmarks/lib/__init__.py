"""What the benchmarks share: environments, runs, tasks, sides and pages; modules with a `main` run as `-m lib.NAME`."""
