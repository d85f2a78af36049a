"""Performance, side by side with peers: each contender alone on one core, rounds in turn, ratios of medians."""
