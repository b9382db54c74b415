"""Storage: the database, which is the only truth, and the views collated from it."""
