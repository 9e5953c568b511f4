"""What comes of a round: the global model, its ranges, its scores and its artefacts."""
