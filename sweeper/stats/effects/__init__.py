"""What parameters do: effects by analysis of variance, or over a forest."""
