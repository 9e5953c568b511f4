"""Rules that take a mean of which some clients lie, one a file; each hands what it found to an inner strategy."""
