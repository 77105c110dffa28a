"""The user's data: found, read, checked, turned into token ids with one loss weight each, and put in
order."""
