"""What a strategy gives back is held to its form once, where it is given back: a wrong model never gets further.

The messages name the method and the tensor, what was expected and what came; whoever calls adds the config's field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_core.errors import ConfigError
from fl_core.types import Tensors
from strategies.base import StrategyState

if TYPE_CHECKING:
    import torch


def check_state(method: str, given: object, model: Tensors, version: int) -> StrategyState:
    """The state that ``method`` gave, if its model is one like ``model`` and its slots are tensors.

    Raises:
        ConfigError: it is no state, of another version, or a tensor has another form or is not finite.
    """
    state = check_is_state(method, given)
    _check_model(method, state.model, model)
    check_groups(f"{method}: slots", state.slots)
    if state.version != version:
        raise ConfigError(f"{method}: expected a state of version {version}, got version {state.version}")
    return state


def check_is_state(method: str, given: object) -> StrategyState:
    """What ``method`` gave, if it is a state.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(given, StrategyState):
        raise ConfigError(f"{method}: expected a StrategyState, got {_shown(given)}")
    return given


def check_groups(what: str, groups: object) -> None:
    """Return where ``groups`` are tensors by name, by the name of their slot or part.

    Raises:
        ConfigError: one is none, or the name of one has a "/", which parts names on their way.
    """
    if not isinstance(groups, Mapping):
        raise ConfigError(f"{what}: expected tensors by slot and name, got {_shown(groups)}")
    for slot, group in groups.items():
        if not isinstance(slot, str) or "/" in slot:
            raise ConfigError(f'{what}: expected a name without "/", got {slot!r}')
        if not isinstance(group, Mapping):
            raise ConfigError(f"{what}: expected tensors by name in {slot}, got {_shown(group)}")
        for name, tensor in group.items():
            if not isinstance(name, str) or not _is_tensor(tensor):
                raise ConfigError(f"{what}: expected a tensor as {slot}/{name}, got {_shown(tensor)}")


def check_conclusion(who: str, given: object) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
    """What ``conclude`` gave, if it is the parts of an update and a memory; ``who`` is the config's field.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(given, tuple) or len(given) != 2:
        raise ConfigError(f"{who}: conclude: expected the parts of the update and a memory, got {_shown(given)}")
    check_groups(f"{who}: conclude: parts", given[0])
    check_groups(f"{who}: conclude: memory", given[1])
    return given


def check_correction(who: str, given: object, params: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """What ``correction`` gave, if each can be added to the gradient of a parameter that moves.

    Raises:
        ConfigError: it is no mapping, names another tensor, or one of another shape.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{who}: correction: expected tensors by name, got {_shown(given)}")
    for name, extra in given.items():
        if name not in params:
            raise ConfigError(f"{who}: correction: expected names among {_named(params)}, got {name!r}")
        shape = getattr(extra, "shape", None)
        if shape != params[name].shape:
            got = _shown(extra) if shape is None else list(shape)
            raise ConfigError(f"{who}: correction: expected {name} of shape {list(params[name].shape)}, got {got}")
    return given


def _check_model(method: str, given: object, model: Tensors) -> None:
    if not isinstance(given, Mapping) or given.keys() != model.keys():
        raise ConfigError(f"{method}: expected a model of {_named(model)}, got {_named(given)}")
    for name, expected in model.items():
        tensor, form = given[name], f"{expected.dtype} {list(expected.shape)}"
        if not _is_tensor(tensor) or (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
            raise ConfigError(f"{method}: expected {name} as {form}, got {_shown(tensor)}")
        bad = tensor.size - int(np.isfinite(tensor).sum())
        if bad:
            raise ConfigError(f"{method}: expected finite values, got {bad} NaN or Inf of {tensor.size} in {name}")


def _named(tensors: object) -> str:
    return f"[{', '.join(sorted(map(str, tensors)))}]" if isinstance(tensors, Mapping) else _shown(tensors)


def _is_tensor(given: Any) -> bool:
    return isinstance(given, np.ndarray | np.generic) and given.dtype.kind in "fiub"


def _shown(given: object) -> str:
    """Kind and form of anything, in a few words."""
    if isinstance(given, np.ndarray | np.generic):
        return f"{given.dtype} {list(given.shape)}"
    return "None" if given is None else type(given).__name__
