"""A search over settings: which combinations to try, and a run for each. `linnet.sweep.space` needs no torch."""
