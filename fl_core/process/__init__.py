"""Processes of this project's own: supervised, found again, logged in bounded files."""
