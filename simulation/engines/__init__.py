"""Where simulated clients compute: in this process or in a pool of processes."""
