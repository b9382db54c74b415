"""Commands: arguments, processes, and the numbers in what they print."""
