"""A model is built several times in a run, by the server and by each client: whether its factory gives it again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def difference(model: nn.Module, again: nn.Module) -> str:
    """What first differs between a model and the one that its factory gave from the same seed; empty where nothing."""
    layers, others = dict(_layers(model)), dict(_layers(again))
    for path in [*layers, *others]:
        if layers.get(path) != others.get(path):
            return f"layer {path or type(model).__name__} is {_named(layers, path)}, then {_named(others, path)}"
    tensors, twins = dict(_tensors(model)), dict(_tensors(again))
    for name in [*tensors, *twins]:
        if name not in tensors or name not in twins:
            return f"{name} is there once and once not"
        one, other = tensors[name], twins[name]
        if one.shape != other.shape:
            return f"{name} has shape {list(one.shape)}, then {list(other.shape)}"
        if one.requires_grad != other.requires_grad:
            return f"{name} has requires_grad {one.requires_grad}, then {other.requires_grad}"
        if not _equal(one, other):
            return f"{name} has other values"
    return ""


def _layers(model: nn.Module) -> Iterator[tuple[str, str]]:
    for path, module in model.named_modules(remove_duplicate=False):
        yield path, f"{type(module).__qualname__}({module.extra_repr()})"


def _named(layers: dict[str, str], path: str) -> str:
    return layers.get(path, "not there")


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same values; NaN is equal to itself."""
    return one.dtype == other.dtype and torch.allclose(one.detach(), other.detach(), rtol=0, atol=0, equal_nan=True)
