"""Compiles steps to native code."""
