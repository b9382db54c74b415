"""What a script calls: `sweep`, `open`, and what reads their arguments."""
