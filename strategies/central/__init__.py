"""Noise at the server for whole clients: how updates are clipped, noised and paid for."""
