"""The optimiser of a point, and its options."""
