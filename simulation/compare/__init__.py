"""Runs of several strategies side by side."""
