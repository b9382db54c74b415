"""What an objective is told of its trial, and where that goes on from."""
