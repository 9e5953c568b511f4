"""Cuts a model behind its frozen front end, so that what never changes is computed once an example.

Everything before the cut has no trained weight, no range that moves and no dropout: it is a fixed function of an
example. Prefix and suffix share their layers with the whole model, and a parameter has the same name in the suffix.
"""

from __future__ import annotations

from fl_core.quant.fake_quant import FixedRange
from fl_core.quant.graph import QatModel, Step
from fl_core.quant.prepare import attach_layers, attach_quantizers


def split_frozen(model: QatModel) -> tuple[QatModel, QatModel] | None:
    """(prefix, suffix) with ``suffix(prefix(x))`` equal to ``model(x)``; None where nothing is frozen."""
    cut = 0
    for at, step in enumerate(model.steps[:-1], start=1):
        if not _is_frozen(model, step):
            break
        if _is_only_bridge(model, at):
            cut = at
    if not any(step.layer is not None for step in model.steps[:cut]):
        return None
    bridge = model.steps[cut - 1].output
    prefix = _part(model, model.steps[:cut], model.input_name, bridge)
    suffix = _part(model, model.steps[cut:], bridge, model.output_name)
    return prefix, suffix


def _part(model: QatModel, steps: tuple[Step, ...], first: str, last: str) -> QatModel:
    names = {first, *(step.output for step in steps)}
    grids = {name: grid for name, grid in model.grids.items() if name in names}
    part = QatModel(steps, grids, first, last, model.input_shape)
    attach_layers(part, model)
    attach_quantizers(part)
    part.train(model.training)
    return part


def _is_frozen(model: QatModel, step: Step) -> bool:
    grids = (model.grids[name] for name in (*step.inputs, step.output))
    layer = step.layer
    return (
        all(isinstance(grid, FixedRange) for grid in grids)
        and step.op != "dropout"
        and (layer is None or not any(param.requires_grad for param in layer.parameters()))
    )


def _is_only_bridge(model: QatModel, at: int) -> bool:
    """Whether the steps from ``at`` on need nothing from before but the output of the step just before."""
    later = model.steps[at:]
    own = {model.steps[at - 1].output, *(step.output for step in later)}
    return all(name in own for step in later for name in step.inputs)
