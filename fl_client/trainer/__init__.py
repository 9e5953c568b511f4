"""The resident trainer: it keeps torch, data, ledger and state, and answers tasks."""
