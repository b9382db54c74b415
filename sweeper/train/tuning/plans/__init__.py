"""Plans: from the outcomes of a stage of tuning to the next step (pure)."""
