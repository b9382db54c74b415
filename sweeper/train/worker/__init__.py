"""What a worker does around training: its job as it reads it, and what it looks at first."""
