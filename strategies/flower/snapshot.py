"""What a Flower strategy keeps on itself, as tensors for a checkpoint, and back onto it.

Numbers, texts, arrays, ArrayRecords, and lists, tuples, dicts and inner strategies of them are kept to the bit.
Whatever else an instance holds (a generator of its own, an open file) is named, for no resume can bring it back.
Functions and classes are part of the code and not of the state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy

from fl_core.types import FloatArray, Tensors

_OUTLINE = "outline"
"""The tensor that holds the JSON text of everything that is no array."""
_PLAIN = (type(None), bool, int, float, str)
_NOT_KEPT = object()


def snapshot(strategy: Strategy) -> tuple[Tensors, tuple[str, ...]]:
    """What can be kept, as tensors of any dtype by name, and the names of the attributes that cannot be.

    All values are copies.
    """
    arrays: dict[str, Any] = {}
    lost: list[str] = []
    outline = _pack_attributes(strategy, "", arrays, lost)
    text = np.frombuffer(json.dumps(outline).encode(), np.uint8)
    return cast("dict[str, FloatArray]", {**arrays, _OUTLINE: text.copy()}), tuple(lost)


def restore(strategy: Strategy, kept: Tensors) -> None:
    """Give ``strategy`` the attributes of a snapshot; those that came up after it are taken away."""
    outline = json.loads(np.asarray(kept[_OUTLINE], np.uint8).tobytes())
    _unpack_attributes(strategy, outline, kept)


def _pack_attributes(strategy: Strategy, path: str, arrays: dict[str, Any], lost: list[str]) -> dict[str, Any]:
    outline = {}
    for name, value in vars(strategy).items():
        node = _pack(value, f"{path}{name}", arrays, lost)
        if node is not _NOT_KEPT:
            outline[name] = node
        elif not callable(value):
            lost.append(f"{path}{name}")
    return outline


def _pack(value: Any, path: str, arrays: dict[str, Any], lost: list[str]) -> Any:
    """A JSON value that says what ``value`` is, its arrays put into ``arrays``; _NOT_KEPT where there is none."""
    if type(value) in _PLAIN:
        return {"plain": value}
    if isinstance(value, Strategy):
        return {"strategy": _pack_attributes(value, f"{path}.", arrays, lost)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        arrays[path] = np.array(value, order="C")
        return {"array" if isinstance(value, np.ndarray) else "number": path}
    if isinstance(value, ArrayRecord):
        return {"record": [[key, _pack(array.numpy(), f"{path}.{key}", arrays, lost)] for key, array in value.items()]}
    if type(value) in (list, tuple):
        nodes = [_pack(item, f"{path}.{n}", arrays, lost) for n, item in enumerate(value)]
        return _NOT_KEPT if _NOT_KEPT in nodes else {type(value).__name__: nodes}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        pairs = [[key, _pack(item, f"{path}.{key}", arrays, lost)] for key, item in value.items()]
        return _NOT_KEPT if any(node is _NOT_KEPT for _, node in pairs) else {"dict": pairs}
    return _NOT_KEPT


def _unpack_attributes(strategy: Strategy, outline: Mapping[str, Any], kept: Tensors) -> None:
    for name, value in list(vars(strategy).items()):
        if name not in outline and _pack(value, name, {}, []) is not _NOT_KEPT:
            delattr(strategy, name)
    for name, node in outline.items():
        inner = getattr(strategy, name, None)
        if "strategy" in node and isinstance(inner, Strategy):
            _unpack_attributes(inner, node["strategy"], kept)
        else:
            setattr(strategy, name, _unpack(node, kept))


def _unpack(node: Mapping[str, Any], kept: Tensors) -> Any:
    ((kind, value),) = node.items()
    if kind == "plain":
        return value
    if kind == "array":
        return np.array(kept[value])
    if kind == "number":
        return kept[value][()]
    if kind == "record":
        return ArrayRecord({key: Array(np.array(kept[item["array"]])) for key, item in value})
    if kind == "dict":
        return {key: _unpack(item, kept) for key, item in value}
    items = [_unpack(item, kept) for item in value]
    return tuple(items) if kind == "tuple" else items
