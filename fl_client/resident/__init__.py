"""The resident trainer of a board: a process that keeps torch, data, ledger and state, behind a Unix socket."""
