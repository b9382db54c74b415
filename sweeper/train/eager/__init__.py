"""Eager training: one replica at a time, by torch itself."""
