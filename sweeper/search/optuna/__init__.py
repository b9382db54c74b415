"""A domain as Optuna's search space, and a search as a study that Optuna opens."""
