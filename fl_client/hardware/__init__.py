"""What a device has and how it is right now."""
