"""What a plan may ask a client for beside the parts of its strategy: one row a part, measured after training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from fl_client.trainer.job import TrainJob
from fl_client.trainer.ranges import running_ranges
from fl_core.parts import RANGES_PART, RMS_LOSS_PART
from fl_core.quant.forward import outputs
from fl_core.types import Tensors


def example_losses(job: TrainJob) -> torch.Tensor:
    """Loss of what ``job.model`` holds now on each of the client's N examples, float32 [N]; without a gradient."""
    output_NX = torch.from_numpy(outputs(job.model, job.inputs, fake_quant=job.spec.quant.enabled))
    return job.task.example_loss(output_NX, job.task.targets(job.targets))


def rms_loss(job: TrainJob) -> Tensors:
    """Root mean square of ``example_losses``, float32 [1]."""
    return {"rms": np.sqrt(np.mean(np.square(example_losses(job).numpy()), keepdims=True))}


ASKED: Mapping[str, Callable[[TrainJob], Tensors]] = {
    RMS_LOSS_PART: rms_loss,
    RANGES_PART: lambda job: running_ranges(job.net.whole),
}
"""How each part that a plan may ask for is measured, with the trained weights in the job's net."""
