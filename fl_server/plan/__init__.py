"""What is going to run: config, data and strategy, the plans of clients, and what is refused before the start."""
