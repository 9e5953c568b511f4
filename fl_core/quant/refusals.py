"""What to use instead of layers that cannot become integer, by the name of the class, function or method."""

from __future__ import annotations

from collections.abc import Mapping

_NORM = "use no normalisation, or BatchNorm directly after a convolution: it is frozen and folded"
_RECURRENT = "use Conv1d over time"
_ATTENTION = "use Conv1d or pooling over time"
_LOSS = "leave it to the loss: the order of the classes is the same without it"
_SMOOTH = "use ReLU, ReLU6 or Hardswish"
_PRODUCT = "a product of two activations has no integer form here; use add or concat"
_PAD = "use the padding argument of the convolution"
_SHAPE = "use Flatten, or a view that keeps the batch axis and joins all others"

INSTEAD: Mapping[str, str] = {
    "GroupNorm": _NORM,
    "LayerNorm": _NORM,
    "RMSNorm": _NORM,
    "InstanceNorm1d": _NORM,
    "InstanceNorm2d": _NORM,
    "SyncBatchNorm": _NORM,
    "LocalResponseNorm": _NORM,
    "group_norm": _NORM,
    "layer_norm": _NORM,
    "batch_norm": _NORM,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "LSTMCell": _RECURRENT,
    "GRUCell": _RECURRENT,
    "MultiheadAttention": _ATTENTION,
    "TransformerEncoder": _ATTENTION,
    "TransformerEncoderLayer": _ATTENTION,
    "scaled_dot_product_attention": _ATTENTION,
    "Softmax": _LOSS,
    "LogSoftmax": _LOSS,
    "softmax": _LOSS,
    "log_softmax": _LOSS,
    "GELU": _SMOOTH,
    "gelu": _SMOOTH,
    "SiLU": _SMOOTH,
    "silu": _SMOOTH,
    "ELU": _SMOOTH,
    "elu": _SMOOTH,
    "Mish": _SMOOTH,
    "LeakyReLU": _SMOOTH,
    "leaky_relu": _SMOOTH,
    "PReLU": _SMOOTH,
    "Tanh": "use Hardtanh or Sigmoid",
    "tanh": "use Hardtanh or Sigmoid",
    "mul": _PRODUCT,
    "matmul": _PRODUCT,
    "bmm": _PRODUCT,
    "ZeroPad2d": _PAD,
    "ConstantPad2d": _PAD,
    "pad": _PAD,
    "permute": _SHAPE,
    "transpose": _SHAPE,
    "unsqueeze": _SHAPE,
    "squeeze": _SHAPE,
    "ConvTranspose1d": "use Conv1d",
    "ConvTranspose2d": "use Conv2d",
    "Conv3d": "use Conv2d",
    "conv1d": "use nn.Conv1d",
    "conv2d": "use nn.Conv2d",
    "linear": "use nn.Linear",
    "Embedding": "use Linear on one-hot inputs",
}
