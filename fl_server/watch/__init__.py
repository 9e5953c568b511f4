"""Reading along: a run folder's events, reduced to what a person or a monitor is shown."""
