"""Several strategies on the same config: their runs, what these came to, and how it is shown."""
