"""Opacus' per-example gradients without the rest of Opacus, which a small board would hold in memory for nothing.

``import opacus`` runs the package's ``__init__``: accountants, which load scipy.stats and scipy.optimize, and
optimizers, which load torch.distributed.tensor and sympy. That is 95 MB of a process, and DP-SGD here needs none of
it. So the package is entered with its ``__init__`` still to run, and that happens as soon as anybody asks it for a
name: a user's own code that imports Opacus gets the whole of it, with the same classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from torch import nn

from fl_core.errors import PrivacyError


def opacus_grad_sample() -> ModuleType:
    """The module ``opacus.grad_sample``.

    Raises:
        PrivacyError: Opacus is not installed.
    """
    if "opacus" not in sys.modules:
        sys.modules["opacus"] = _unopened("opacus")
    return importlib.import_module("opacus.grad_sample")


def load_for_convolutions(layers: Iterable[nn.Module]) -> None:
    """Import what Opacus' own sampler of convolutions looks at, where one of ``layers`` is a plain one.

    It asks whether a layer is wrapped by ``torch.distributed.fsdp``, which neither torch nor this part of Opacus
    imports. Quantized layers have samplers of their own, so that a board does without these 46 MB.
    """
    if any(type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d) for layer in layers):
        importlib.import_module("torch.distributed.fsdp")


def _unopened(name: str) -> ModuleType:
    """A package whose submodules can be imported, and whose ``__init__`` runs when it is first asked for a name."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise PrivacyError(f"per-example gradients need {name}, which is not installed: pip install {name}")
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def open_it(wanted: str) -> Any:
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, wanted)

    package.__getattr__ = open_it  # type: ignore[method-assign]
    return package
