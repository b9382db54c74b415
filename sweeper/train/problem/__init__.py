"""The problem: what it says, and what is known of it."""
