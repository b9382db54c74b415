"""One step of a model as a trace, run for many replicas at once."""
