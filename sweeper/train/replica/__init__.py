"""What belongs to one replica: its random streams, curves, checkpoints, weights and parent."""
