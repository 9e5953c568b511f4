"""The algorithms of federated learning: one a file, client half and server half together, the paper first."""
