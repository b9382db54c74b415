"""Objectives: where they are, what they take, and those that no worker can import."""
