"""What a folder has of points and trials, read for people: results, notes, and the views."""
