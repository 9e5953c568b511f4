"""The server: the round loop, what it admits, what it keeps and what it publishes."""
