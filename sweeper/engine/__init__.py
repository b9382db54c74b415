"""A sweep in its folder, from opening to results: it knows a `Workload`, not what that is."""
