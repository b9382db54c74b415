"""What several selectors share: brackets, goals, lists of asks and of points, single use."""
