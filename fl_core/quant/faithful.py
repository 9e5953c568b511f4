"""One comparison that catches whatever the reading of a model missed: its author's module against what was made of it.

Both run in float on the same examples, and the prepared one cuts no activation to a range. They must agree to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fl_core.errors import ModelError
from fl_core.own_code import own_code
from fl_core.quant.fake_quant import Range
from fl_core.quant.graph import QatModel
from fl_core.quant.prepare import TracedModel, quantize
from fl_core.quant.spec import QuantSpec

TOLERANCE = 1e-4
"""How far results may lie apart, as a share of the largest of them: float32 and a folded BatchNorm take 1e-5."""


def checked_outputs(traced: TracedModel, x: Tensor, input_range: Range) -> Tensor:
    """Outputs of a model for the examples ``x`` [B, *input_shape], the same in eager mode as when it is prepared.

    Raises:
        ModelError: they compute different things; names the first layer that does.
    """
    net = copy.deepcopy(traced.module).eval()
    prepared = quantize(traced, QuantSpec(enabled=False), input_range).eval()
    name = type(net).__name__
    with torch.inference_mode(mode=False), torch.no_grad(), own_code(f"model {name}: in eager mode", ModelError):
        wanted: Tensor = net(x.clone())
        if not torch.isfinite(wanted).all():
            raise ModelError(f"model {name}: {_not_finite(net)}")
        if not _apart(prepared(x), wanted):
            return wanted
        if _apart(net(x.clone()), wanted):
            raise ModelError(
                f"model {name}: gives other results each time for the same examples; in evaluation it must be a fixed "
                "function of its input"
            )
        found = _first_difference(net.double(), prepared.double(), x.double())
    if found:
        raise ModelError(
            f"{found}; training and export would follow the second: expected a forward that is a fixed list of layers "
            "and functions"
        )
    return wanted


def _not_finite(net: nn.Module) -> str:
    """Where outputs come from that are not finite."""
    weights = [name for name, tensor in net.state_dict().items() if not torch.isfinite(tensor).all()]
    where = f"; {', '.join(weights)} holds such values itself" if weights else ""
    return f"expected finite outputs for inputs within their range, got some that are not{where}"


def _first_difference(net: nn.Module, prepared: QatModel, x: Tensor) -> str:
    """Where the two first differ in float64, which tells a mistake from rounding; empty where they do not."""
    given = prepared.tensors(x)
    with _recorded(net) as seen:
        output = net(x.clone())
    before = "the model's input"
    for layer, wanted in seen:
        if layer in given and given[layer].shape == wanted.shape:
            if _apart(given[layer], wanted):
                return f"layer {layer}: {_how_far(wanted, given[layer])}, and are the same up to {before}"
            before = f"layer {layer}"
    if _apart(given[prepared.output_name], output):
        return f"model {type(net).__name__}: {_how_far(output, given[prepared.output_name])} behind {before}"
    return ""


@contextmanager
def _recorded(net: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Results of the layers in the order of their calls, under the names that the prepared model has for them."""
    seen: list[tuple[str, Tensor]] = []
    calls: dict[str, int] = {}

    def record(layer: str, result: object) -> None:
        count = calls[layer] = calls.get(layer, -1) + 1
        if isinstance(result, Tensor):
            seen.append((f"{layer}_{count}" if count else layer, result.clone()))

    def hook(layer: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, inputs, result: record(layer, result)

    handles = [module.register_forward_hook(hook(name)) for name, module in net.named_modules() if name]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _apart(result: Tensor, wanted: Tensor) -> bool:
    """Whether two tensors differ by more than rounding."""
    if result.shape != wanted.shape:
        return True
    bound = TOLERANCE * float(wanted.abs().amax()) if wanted.numel() else 0.0
    return not torch.allclose(result, wanted, rtol=0.0, atol=bound, equal_nan=True)


def _how_far(wanted: Tensor, given: Tensor) -> str:
    if wanted.shape != given.shape:
        return f"its results in eager mode have shape {list(wanted.shape)}, and as it was read {list(given.shape)}"
    return (
        f"its results in eager mode and as it was read differ by {float((wanted - given).abs().amax()):.2g}, where "
        f"they reach {float(wanted.abs().amax()):.2g}"
    )
