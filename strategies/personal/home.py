"""What every strategy checks that keeps a part of the model with its client: that it is a part, not nothing or all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fl_core.errors import ModelError


def kept_home(strategy: str, chosen: Callable[[Sequence[str]], frozenset[str]], names: Sequence[str]) -> frozenset[str]:
    """What ``chosen`` takes of ``names`` to stay at home, which must be something and not everything.

    Raises:
        ModelError: nothing would stay, or nothing would travel.
    """
    home = chosen(names)
    if not home or len(home) == len(names):
        what = "keeps none of them at home" if not home else "leaves none to travel"
        raise ModelError(
            f"{strategy}: expected a model of which a part stays at home, but of {sorted(names)} it {what}"
        )
    return home
