"""How a round's clients are chosen: one rule a file, made from the config by ``build_selection``."""
