"""Where rows come from: files, folders, hubs, Python objects; every source becomes a stream of rows."""
