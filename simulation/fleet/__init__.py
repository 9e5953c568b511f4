"""The virtual fleet: how time passes for its devices."""
