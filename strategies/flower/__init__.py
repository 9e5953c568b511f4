"""The bridge to Flower's own strategies, both ways."""
