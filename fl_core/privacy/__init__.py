"""Per-example differential privacy: the private step, the accountant, the device's policy and its ledger."""
