"""Names that people bring along from other tools: one table, and how settings under them are read."""
