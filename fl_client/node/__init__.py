"""A device's identity and its way to the server."""
