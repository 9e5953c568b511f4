"""The client: the thin Flower app, and the trainer that keeps data, ledger and state."""
