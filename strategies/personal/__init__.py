"""Strategies with a part or a whole model that stays with each client."""
