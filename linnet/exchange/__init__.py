"""Models that other programs made, as folders that Linnet uses."""
