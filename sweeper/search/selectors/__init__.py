"""Selectors that sweeper ships, one file each."""
