"""What a person sees: progress while it runs, tables of results."""
