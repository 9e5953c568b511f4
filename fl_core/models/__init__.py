"""The models there are, and how one is made from a config: seeded, without touching the global generators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from fl_core.errors import ModelError
from fl_core.models.autoencoder import autoencoder
from fl_core.models.ds_cnn import ds_cnn
from fl_core.models.efficientnet_lite0 import efficientnet_lite0
from fl_core.models.image_bank import image_bank
from fl_core.models.image_cnn import image_cnn
from fl_core.models.imu_bank import imu_bank
from fl_core.models.imu_cnn import imu_cnn
from fl_core.models.resnet8 import resnet8
from fl_core.registry import find_maker
from fl_core.seeding import seeded

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "imu_cnn": imu_cnn,
    "imu_bank": imu_bank,
    "image_cnn": image_cnn,
    "image_bank": image_bank,
    "ds_cnn": ds_cnn,
    "resnet8": resnet8,
    "autoencoder": autoencoder,
    "efficientnet_lite0": efficientnet_lite0,
}


def build_model(
    name: str | None,
    factory: str | None,
    args: Mapping[str, Any],
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int,
) -> nn.Module:
    """The float model of that name, or of that "package.module:callable", with weights that ``seed`` decides.

    A maker is called with ``input_shape``, ``outputs`` and the args; its result must be a module that maps
    [B, *input_shape] to [B, outputs].

    Raises:
        ConfigError: there is none of that name, or it refuses its args.
        ModelError: the user's own factory fails, or what came is no module.
    """
    maker = find_maker("model", name, factory, MODELS)
    given = {key: value for key, value in args.items() if key != "outputs"}
    with seeded(seed):
        model = maker(given, {"input_shape": input_shape, "outputs": outputs}, ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError(f"model.factory {factory}: expected a torch module, got {type(model).__name__}")
    return model
