"""A problem's data: samples, splits, and what identifies them."""
