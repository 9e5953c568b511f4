"""What to use instead of layers that cannot become integer, by the name of the class, function or method.

Every hint leads to something that is accepted; a test holds each of them to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from fl_core.errors import UnsupportedLayerError
from fl_core.quant.float_ops import is_activation, layer_name

_NORM = (
    "leave it out; only BatchNorm directly after a convolution or linear layer can be folded, with the statistics that "
    "it brings"
)
_RECURRENT = "use Conv1d over time"
_ATTENTION = "use Conv1d or pooling over time"
_LOSS = "leave it to the loss: the order of the classes is the same without it"
_SMOOTH = "use ReLU, ReLU6 or Hardswish"
_BOUNDED = "use Hardtanh or Sigmoid"
_PRODUCT = "a product of two activations has no integer form here; use add or concat"
_FACTOR = (
    "an activation times a number has no integer form here; put the factor into the initial weight and bias of the "
    "layer that gives the activation"
)
_DIFFERENCE = (
    "use add, and let the layer that gives the subtracted activation carry the sign in its initial weight and bias"
)
_PAD = "use the padding argument of the convolution"
_ORDER = "let the data give its axes in the order [channels, *space], and Flatten join them"
_NEW_AXIS = "let the data give its examples with that axis"
_PART = "give each part a layer of its own that reads the whole, or pool over the axis"
_MAX = "use AdaptiveMaxPool1d or AdaptiveMaxPool2d"
_SUM = "use AdaptiveAvgPool1d or AdaptiveAvgPool2d: a sum is a mean times a constant"
_SMALLER = "work at the smaller size: pool what is larger"
_PRECISION = "leave tensors in float32, as they come"
_FREEZE = "freeze the layers before it with requires_grad_(False) instead"
_CONSTANT = "put a constant into the bias of a layer, and noise into nn.Dropout"
_REPARAMETRISED = (
    "make its weight a plain one first: torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
)
_OTHERWISE = "use Conv1d, Conv2d, Linear, ReLU, pooling, add or concat"

_BY_HINT: Mapping[str, str] = {
    _NORM: (
        "GroupNorm LayerNorm RMSNorm InstanceNorm1d InstanceNorm2d SyncBatchNorm LocalResponseNorm group_norm "
        "layer_norm rms_norm instance_norm batch_norm local_response_norm normalize"
    ),
    _RECURRENT: "LSTM GRU RNN LSTMCell GRUCell RNNCell",
    _ATTENTION: (
        "MultiheadAttention TransformerEncoder TransformerEncoderLayer TransformerDecoder TransformerDecoderLayer "
        "Transformer scaled_dot_product_attention multi_head_attention_forward"
    ),
    _LOSS: "Softmax LogSoftmax softmax log_softmax Softmax2d LogSigmoid logsigmoid",
    _SMOOTH: (
        "GELU gelu SiLU silu ELU elu CELU celu SELU selu Mish mish Softplus softplus LeakyReLU leaky_relu leaky_relu_ "
        "PReLU prelu RReLU rrelu abs"
    ),
    _BOUNDED: "Tanh tanh tanh_ Softsign softsign Hardsigmoid hardsigmoid",
    _PRODUCT: "mul mul_ imul matmul bmm mm einsum pow square multiply Bilinear bilinear",
    _DIFFERENCE: "sub sub_ isub subtract rsub",
    _PAD: "ZeroPad1d ZeroPad2d ConstantPad1d ConstantPad2d pad",
    _ORDER: "permute transpose movedim swapaxes T mT t",
    _NEW_AXIS: "unsqueeze Unflatten unflatten",
    _PART: "getitem chunk split tensor_split narrow select unbind index_select gather",
    _MAX: "max amax",
    _SUM: "sum",
    _SMALLER: "interpolate upsample Upsample UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle pixel_shuffle",
    _PRECISION: "double half bfloat16 to type type_as",
    _FREEZE: "detach detach_",
    _CONSTANT: "zeros_like ones_like full_like rand_like randn_like rand randn",
    "use Conv1d": "ConvTranspose1d conv_transpose1d",
    "use Conv2d": "ConvTranspose2d conv_transpose2d Conv3d",
    "use nn.Conv1d": "conv1d",
    "use nn.Conv2d": "conv2d",
    "use nn.Linear": "linear",
    "use cat": "stack hstack vstack",
    "use Linear on one-hot inputs": "Embedding embedding EmbeddingBag",
    _REPARAMETRISED: "(parametrised)",
    _FACTOR: "(factor)",
    _OTHERWISE: "(other)",
}

INSTEAD: Mapping[str, str] = {name: hint for hint, names in _BY_HINT.items() for name in names.split()}
"""A row for each class, function and method; those in brackets are kinds of them."""

_SCALES = frozenset({"mul", "mul_", "imul", "multiply", "div", "div_", "truediv", "itruediv", "neg", "divide"})


def refusal(node: fx.Node, target: Any) -> UnsupportedLayerError:
    """The error that says that a node, which calls ``target``, cannot become integer, and what to use instead."""
    kind = str(node.args[1]) if target is getattr else getattr(target, "__name__", str(target))
    known = kind
    if kind.startswith("Parametrized"):
        known = "(parametrised)"
    elif kind in _SCALES and _activations_in(node) == 1:
        known = "(factor)"
    hint = INSTEAD.get(known, INSTEAD["(other)"])
    return UnsupportedLayerError(f"layer {layer_name(node)}: {kind} cannot become integer; {hint}")


def _activations_in(node: fx.Node) -> int:
    """How many activations a node takes, one for each time it is written: x * x has two."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return sum(map(is_activation, found))
