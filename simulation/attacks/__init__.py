"""Clients that lie, for simulations only: what they send or train on, and the Grid on which they see the others."""
