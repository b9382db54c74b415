"""Files: atomic writes, arrays as bytes, locks, and the form of checkpoint files."""
