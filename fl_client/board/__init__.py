"""The processes of a board, kept up and shown."""
