"""From a lowered integer model to a proven artefact in a runtime, and back to a board that checks it."""
