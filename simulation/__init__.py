"""The simulator: a whole federation on one machine, with the command fl-sim."""
