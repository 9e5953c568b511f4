"""Nodes over an exchange: who is there, what they are asked, and when they have lost it."""
