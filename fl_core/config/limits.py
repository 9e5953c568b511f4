"""The least and the largest values that a config may have where nothing in the field's own meaning bounds it."""

from __future__ import annotations

LONGEST_NAME = 100
"""Letters of a run's name, which is the name of its folder too."""
LARGEST_SEED = 2**63
"""What a generator of torch can be seeded with."""
LONGEST_DEADLINE_S = 1e7
"""Four months; what is much longer no clock of the operating system can wait for."""
LEAST_SAMPLE_RATE = 1e-12
"""Below it steps and noise can no longer be computed; nobody has so many examples."""
LARGEST_CLIP_NORM = 1e6
"""Noise grows with the clip norm: beyond this there is nothing left to learn from."""
LARGEST_LEARNING_RATE = 1e38
"""What is larger is no float32."""
