"""The database of a folder: the only truth, in durable transactions."""
