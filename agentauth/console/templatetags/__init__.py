"""Template tags of our look."""
