"""Records one step of a model as a trace, and runs it for many replicas at once."""
