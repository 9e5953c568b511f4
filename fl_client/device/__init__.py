"""What belongs to one device: its home folder, identity, hardware and services."""
