"""The resident trainer of a board: a process that keeps torch, data, ledger and state, behind a Unix socket."""

SOCKET_KEY = "trainer-socket"
"""In the node's config of Flower, which a board alone decides: where its shells find the trainer's socket."""
