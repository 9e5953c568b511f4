"""Which of a model's trainable tensors belong to which of its layers, by their names alone."""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.errors import ModelError

RANGE_PREFIX = "act_quant."
"""What stands before the path of a layer in the names of its output's learned range."""


def last_layer(names: Sequence[str]) -> str:
    """The path of the last layer that has trainable tensors, ``names`` being in the order of the model.

    Raises:
        ModelError: there is no such layer.
    """
    layers = [name for name in names if not name.startswith(RANGE_PREFIX)]
    if not layers:
        raise ModelError(f"model: expected trainable layers, got {sorted(names)}")
    return layers[-1].rpartition(".")[0] or layers[-1]


def tensors_of_layers(layers: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """Those of ``names`` that belong to the layers, or to what lies below them: weights and learned ranges.

    Raises:
        ModelError: a layer has none.
    """
    found: set[str] = set()
    for layer in layers:
        own = {name for name in names if f"{name.removeprefix(RANGE_PREFIX)}.".startswith(f"{layer}.")}
        if not own:
            raise ModelError(
                f"strategy.args.layers: expected layers with trainable tensors {sorted(names)}, got {layer}"
            )
        found |= own
    return frozenset(found)
