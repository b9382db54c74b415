"""How a point's model and loss behave: fingerprints, and what no seed governs."""
