"""The machine: its cores and devices, and which job gets which."""
