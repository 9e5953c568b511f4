"""Whether the weights of a float model are what training and export take them for: plain float32 parameters.

A weight that is computed from other parameters (weight_norm, pruning), a hook, or a memory that two parameters share
would be lost without a word when a layer becomes a quantized one, so each of them is refused by name.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from fl_core.errors import ModelError

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def check_weights(model: nn.Module) -> None:
    """Refuse weights that are not there yet, not float32, not on the CPU or not plain parameters.

    Raises:
        ModelError: with one line for each kind and each layer.
    """
    named = list(model.named_parameters())
    lazy = [name for name, param in named if nn.parameter.is_lazy(param)]
    if lazy:
        raise ModelError(f"model: expected layers of known size, got lazy ones with {', '.join(lazy)}")
    floats = [(name, t) for name, t in (*named, *model.named_buffers()) if t.is_floating_point() or t.is_complex()]
    problems = []
    for dtype in sorted({t.dtype for _, t in floats} - {torch.float32}, key=str):
        kind = str(dtype).removeprefix("torch.")
        which = _listed([name for name, t in floats if t.dtype == dtype])
        problems.append(f"model: expected float32 weights, got {kind} in {which}; give the model as model.float()")
    elsewhere = [name for name, t in floats if t.device.type != "cpu"]
    if elsewhere:
        problems.append(f"model: expected weights on the CPU, got others in {_listed(elsewhere)}")
    problems += [
        f"parameter {name}: has a hook on its gradient, which training here would leave out; take it off"
        for name, param in named
        if param._backward_hooks
    ]
    if not elsewhere:
        problems += _overlaps(named)
    problems += [problem for name, layer in model.named_modules() for problem in _altered(name, layer)]
    if problems:
        raise ModelError(problems)


def _altered(name: str, layer: nn.Module) -> list[str]:
    """Why a layer's weight or result is not that of its class alone."""
    # torch.fx takes these as one operation each; what else there is, it looks into, hooks included.
    if not type(layer).__module__.startswith("torch.nn") or isinstance(layer, nn.Sequential):
        return []
    others = [each for each, _ in layer.named_parameters(recurse=False) if each.endswith(("_g", "_v", "_orig"))]
    if others:
        return [
            f"layer {name}: its weight is computed from {', '.join(others)}; make it a plain one first, with "
            "torch.nn.utils.remove_weight_norm, remove_spectral_norm or prune.remove"
        ]
    if any(getattr(layer, hooks, None) for hooks in HOOKS):
        return [f"layer {name}: has a hook, which training here would leave out; take it off"]
    return []


def _overlaps(named: list[tuple[str, nn.Parameter]]) -> list[str]:
    """Parameters that are two and lie in one memory: one that is trained would move the other."""
    spans = sorted((param.data_ptr(), param.data_ptr() + _extent_bytes(param), name) for name, param in named)
    return [
        f"parameter {name}: shares its memory with {before} and is another parameter; make them one "
        f"({name} = {before}) or copy it"
        for (_, end, before), (start, _, name) in itertools.pairwise(spans)
        if start < end
    ]


def _extent_bytes(param: nn.Parameter) -> int:
    if not param.numel():
        return 0
    return (1 + sum((n - 1) * step for n, step in zip(param.shape, param.stride(), strict=True))) * param.itemsize


def _listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
