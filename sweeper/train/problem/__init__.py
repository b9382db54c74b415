"""The problem: importing, reading and checking what the user wrote."""
