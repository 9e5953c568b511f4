"""Data: the contract of a federation, the built-in data sets and how a pool is dealt to clients."""
