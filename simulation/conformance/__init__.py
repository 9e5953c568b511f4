"""The conformance suite that every strategy passes, ours and anybody's; ``plugin`` is what pytest loads."""
