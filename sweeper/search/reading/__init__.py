"""Reads what is given as a selector: a list, a name and options, axes of a command line."""
