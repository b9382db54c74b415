"""How a point is tuned: decisions in pure functions, without torch."""
