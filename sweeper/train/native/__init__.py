"""Steps compiled to native code."""
