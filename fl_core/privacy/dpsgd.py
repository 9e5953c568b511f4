"""One differentially private gradient step (DP-SGD, arXiv 1607.00133), with Opacus' hooks behind one class.

A step draws a Poisson sample, clips the gradient of every example to ``clip_norm`` over all trainable parameters
jointly, sums, adds Gaussian noise and divides by a public number. The promise: what ``step`` leaves in ``.grad`` is
the Poisson-sampled Gaussian mechanism that the accountant charges for, whatever the examples hold. So an empty
sample still gives noise, an example whose gradient is not finite counts as zero, and nothing else in the model may
move with the data: a buffer that a forward pass changes (batch statistics, running ranges) is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from fl_core.errors import ModelError, PrivacyError
from fl_core.privacy.grad_samplers import register_grad_samplers
from fl_core.privacy.opacus_part import load_for_convolutions, opacus_grad_sample
from fl_core.rng import NoiseSource
from fl_core.tasks.contract import check_losses
from fl_core.types import DpTerms

ExampleLoss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a model, inputs [B, ...] and targets to losses [B]; it may run the model as often as it likes."""

_NORM_MARGIN = 1e-5
"""A float32 norm may come out too small by about one part in a million; clipping to less keeps the bound true."""


class PrivateStep:
    """Fills ``.grad`` of a model with private gradients, one step at a time; the optimizer stays the caller's.

    Use it as a context manager: the hooks leave the model with it.

    Example:
        with PrivateStep(model, terms, noise) as private:
            for step in range(terms.steps):
                private.step(step, x_NX, y_N, lambda net, x, y: task.example_loss(net(x), y))
                optimizer.step()

    Args:
        model: in training mode; any module that opacus' GradSampleModule can wrap. Parameters that do not require
            a gradient stay as they are and cost nothing.
        max_physical_batch: examples whose gradients are held in memory together; the result does not depend on it.

    Raises:
        PrivacyError: a layer mixes the examples of a batch.
        ModelError: nothing is trainable, or the model is not in training mode.
    """

    def __init__(
        self,
        model: nn.Module,
        terms: DpTerms,
        noise: NoiseSource,
        *,
        max_physical_batch: int = 128,
    ) -> None:
        register_grad_samplers()
        load_for_convolutions(model.modules())
        _refuse_mixing_layers(model)
        if not model.training:
            raise ModelError("private training needs a model in training mode: call model.train() first")
        self._params = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
        if not self._params:
            raise ModelError("private training needs at least one trainable parameter, the model has none")
        self._model, self._terms, self._noise = model, terms, noise
        self._chunk = max(1, max_physical_batch)
        # Not strict: that would refuse every buffer, while here only one that changes is refused (see _clipped_sum).
        self._wrapped = opacus_grad_sample().GradSampleModule(model, loss_reduction="sum", strict=False)

    def __enter__(self) -> PrivateStep:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks off the model again."""
        self._wrapped.to_standard_module()

    def step(self, step: int, x_NX: torch.Tensor, y_N: torch.Tensor, example_loss: ExampleLoss) -> None:
        """Overwrite ``.grad`` of every trainable parameter with the private gradient of one Poisson sample.

        Args:
            step: number of the step within the round; names the draws of the noise source.
            x_NX: inputs of all N examples of the client. N is private: nothing that leaves here depends on it.
            y_N: their targets.
            example_loss: from the model, inputs [B, ...] and targets to losses [B].

        Raises:
            PrivacyError: a buffer changed, or a parameter has a gradient that is not per example.
            ModelError: the loss is not one number per example.
        """
        mask = self._noise.poisson_mask(step, len(x_NX), self._terms.sample_rate)
        rows = torch.from_numpy(mask).nonzero().squeeze(1)
        sums = [torch.zeros(p.shape, dtype=torch.float64, device=p.device) for _, p in self._params]
        for chunk in rows.split(self._chunk):  # type: ignore[no-untyped-call]
            if len(chunk):  # an empty tensor splits into one empty chunk
                self._add_clipped(sums, x_NX[chunk], y_N[chunk], example_loss)
        noise_std = self._terms.noise_multiplier * self._terms.clip_norm
        for (name, param), total in zip(self._params, sums, strict=True):
            draws = torch.from_numpy(self._noise.normal(step, name, param.shape)).to(param.device)
            param.grad = ((total + noise_std * draws) / self._terms.normaliser).to(param.dtype)

    def _add_clipped(
        self, sums: list[torch.Tensor], x_BX: torch.Tensor, y_B: torch.Tensor, example_loss: ExampleLoss
    ) -> None:
        """Add the sum of the clipped gradients of B examples to ``sums``."""
        self._backward(x_BX, y_B, example_loss)
        # P parameters, each flattened to D_p; an unused parameter has no gradient and counts as zero.
        grads_PBD = [_per_example_gradient(name, p) for name, p in self._params]
        used = [(total, grad) for total, grad in zip(sums, grads_PBD, strict=True) if grad is not None]
        if not used:
            return
        norm_B = torch.stack([torch.linalg.vector_norm(grad, dim=1) for _, grad in used]).norm(dim=0)
        finite_B = torch.isfinite(norm_B)
        factor_B = (self._terms.clip_norm / (norm_B * (1 + _NORM_MARGIN)).clamp_min(1e-30)).clamp(max=1.0)
        everything_finite = bool(finite_B.all())
        for total, grad_BD in used:
            # Infinity times zero is not a number: rows that are not finite are left out, not multiplied away.
            rows_BD = grad_BD if everything_finite else grad_BD[finite_B]
            total += (factor_B[finite_B] @ rows_BD).reshape(total.shape)

    def _backward(self, x_BX: torch.Tensor, y_B: torch.Tensor, example_loss: ExampleLoss) -> None:
        for _, param in self._params:
            param.grad = None
            param.grad_sample = None  # type: ignore[attr-defined]
        before = dict(_buffer_versions(self._model))
        with warnings.catch_warnings():
            # The inputs of the first trainable layer need no gradient behind a frozen front end; that is the point.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            loss_B = example_loss(self._wrapped, x_BX, y_B)
            check_losses(loss_B, len(x_BX))
            loss_B.sum().backward()  # type: ignore[no-untyped-call]
        for name, version in _buffer_versions(self._model):
            if before.get(name) != version:
                raise PrivacyError(
                    f"buffer {name} changed in a private step: what moves with the data outside the clipped "
                    "gradient is not protected; freeze it or make it public"
                )


def _per_example_gradient(name: str, param: nn.Parameter) -> torch.Tensor | None:
    """Gradient of every example, float [B, D]; None for a parameter that was not used."""
    grad: torch.Tensor | None = param.grad_sample  # type: ignore[attr-defined]  # where Opacus leaves it
    param.grad_sample = None  # type: ignore[attr-defined]
    if grad is None:
        if param.grad is not None:
            raise PrivacyError(f"parameter {name} has a gradient but none per example: its layer has no grad sampler")
        return None
    return grad.flatten(1) if grad.dim() > 1 else grad.unsqueeze(1)


def _buffer_versions(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Identity and write counter of every buffer: equal before and after means untouched."""
    for name, buffer in model.named_buffers():
        yield name, (id(buffer), buffer._version)


def _refuse_mixing_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise PrivacyError(
                f"layer {name} ({type(module).__name__}) mixes the examples of a batch, so that clipping bounds "
                "nothing: fold it, freeze it with .eval(), or use a model without normalisation"
            )
