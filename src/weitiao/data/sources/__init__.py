"""Data sources: files, folders, hubs and Python objects, each read as a stream of rows."""
