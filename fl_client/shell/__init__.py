"""The thin Flower shell's way to a trainer: bytes over a Unix socket, without torch."""
