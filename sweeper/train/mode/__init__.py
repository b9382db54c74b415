"""How a point's trials are trained: eager, packed or compiled."""
