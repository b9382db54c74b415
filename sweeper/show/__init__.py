"""Output for people: progress while a sweep runs, tables of results."""
