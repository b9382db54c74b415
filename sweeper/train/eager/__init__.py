"""Training one replica at a time, by torch itself."""
