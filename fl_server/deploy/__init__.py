"""The server as processes: its folder, what keeps them up, and what they say of themselves."""
