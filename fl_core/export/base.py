"""What an exporter is: the seam between one lowered integer model and the runtimes that execute it.

An exporter writes a file, loads it again in the real runtime and proves from that runtime's own optimised graph that
convolutions and matrix products run on integers. Nothing here knows a runtime; a new one is a file that fulfils
``Exporter`` and a row in ``registry.EXPORTERS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fl_core.errors import ExportError
from fl_core.quant.lowered import Lowered
from fl_core.types import FloatArray

IntArray = npt.NDArray[np.int32]


class Runner(Protocol):
    """A loaded artefact, ready to answer."""

    @property
    def output_scale(self) -> float:
        """Size of one LSB of the output, in real units."""

    def run(self, x_BX: FloatArray) -> FloatArray:
        """Real outputs of a batch of float32 examples [B, *input_shape], dequantized, float32.

        Raises:
            ExportError: the examples have another shape than the model's input.
        """

    def integers(self, x_BX: FloatArray) -> IntArray:
        """The same outputs as int32 steps of ``output_scale`` from zero: real = output_scale * steps."""


@dataclass(frozen=True)
class KernelProof:
    """What the runtime really executes, counted in its optimised graph by kernel name."""

    runtime: str
    """Name and version of the runtime that optimised the graph."""
    integer_kernels: Mapping[str, int]
    """Convolutions and matrix products on integers, average poolings included where they run as convolutions."""
    float_kernels: Mapping[str, int]
    """Convolutions and matrix products in float: there must be none."""
    float_elementwise: Mapping[str, int] = field(default_factory=dict)
    """Cheap operations that touch float values inside the graph, without the one quantizer at its entrance and the one
    dequantizer at its exit."""
    integer_nodes: tuple[str, ...] = ()
    """The nodes of the lowered model, by name, that the integer kernels compute."""

    def check(self, layers: Iterable[str]) -> None:
        """Refuses an artefact of which any of the ``layers``, by name, does not run on integers.

        By name and not by number: a pooling that runs as a convolution must not stand in for a missing layer.

        Raises:
            ExportError: a float kernel is left, or a layer has no integer kernel.
        """
        if self.float_kernels:
            raise ExportError(f"{self.runtime}: expected integer kernels only, got float {dict(self.float_kernels)}")
        missing = sorted(set(layers) - set(self.integer_nodes))
        if missing:
            raise ExportError(f"{self.runtime}: expected an integer kernel for every layer, got none for {missing}")


class Exporter(Protocol):
    """One target format: how to write it, load it and look into it."""

    @property
    def name(self) -> str:
        """The format's name in configs, folders and ``artifact.json``."""

    def capabilities(self, lowered: Lowered) -> list[str]:
        """Reasons why this model cannot become this format, each naming its node; empty when it can."""

    def export(self, lowered: Lowered, out: Path, metadata: Mapping[str, str]) -> Path:
        """Writes the artefact's file into the folder ``out`` and returns its path.

        The same model and metadata give the same bytes, so that a hash names a model.

        Raises:
            ExportError: ``capabilities`` gave reasons, or the format's own checker refuses the file.
        """

    def export_float(self, lowered: Lowered, out: Path) -> Path:
        """Writes the float32 twin of the same graph into ``out``: the baseline of sizes and latencies."""

    def load(self, path: Path) -> Runner:
        """Loads a file that ``export`` wrote in the real runtime: one thread, deterministic.

        Raises:
            ExportError: the runtime is not installed or refuses the file.
        """

    def integer_kernels(self, path: Path) -> KernelProof:
        """Counts the kernels of the graph as the runtime optimised it."""


def weighted_layers(lowered: Lowered) -> list[str]:
    """Names of the convolutions and linear layers of a model."""
    return [node.name for node in lowered.nodes if node.weight is not None]
