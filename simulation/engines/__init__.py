"""Where simulated clients compute: one file an engine, and the table that names them."""
