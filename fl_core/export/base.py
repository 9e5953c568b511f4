"""What an exporter is: the seam between one lowered integer model and the runtimes that execute it.

An exporter writes the files of one format, loads them again in the real runtime and proves from that runtime's own
optimised graph that convolutions and matrix products run on integers. Nothing here knows a runtime; a new one is a file
that fulfils ``Exporter`` and a row in ``registry.EXPORTERS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from fl_core.errors import ExportError
from fl_core.export.parity import ParityLimits
from fl_core.quant.lowered import Lowered
from fl_core.types import FloatArray

IntArray = npt.NDArray[np.int32]
Proof = Literal["here", "on_device"]
"""Where an artefact is proven: ``here`` by the machine that makes it, in the format's own runtime, or ``on_device``, by
the device alone that can run it, which then gets it unproven."""


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
        """Outputs of a batch of float32 examples as int32 steps: real output = ``output_scale`` * steps.

        Raises:
            ExportError: the examples have another shape than the model's input.
        """


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
    """One target format: how to write it, load it and look into what its runtime makes of it.

    A whole exporter, which writes chains of linear layers as a NumPy file and has the integer evaluator as its runtime:

    >>> from dataclasses import astuple, replace
    >>> import numpy as np
    >>> from fl_core.errors import ExportError
    >>> from fl_core.export.base import KernelProof
    >>> from fl_core.export.integer_runner import IntegerRunner
    >>> from fl_core.export.parity import ParityLimits
    >>> from fl_core.quant.lowered import Lowered, Node, QParams
    >>> class Npz:
    ...     name, proof = "npz", "here"
    ...
    ...     def unsupported(self, lowered):
    ...         return [f"node {node.name}: is no linear layer" for node in lowered.nodes if node.op != "linear"]
    ...
    ...     def limits(self, lowered, classes):
    ...         return ParityLimits(top1_agreement=1.0 if classes else None, max_lsb=0)
    ...
    ...     def export(self, lowered, out, metadata):
    ...         if reasons := self.unsupported(lowered):
    ...             raise ExportError("; ".join(reasons))
    ...         grids = [astuple(lowered.tensors[name]) for name in ("input", *(n.output for n in lowered.nodes))]
    ...         arrays = {"names": [node.name for node in lowered.nodes], "grids": [grid[:4] for grid in grids]}
    ...         for at, n in enumerate(lowered.nodes):
    ...             arrays |= {f"weight{at}": n.weight, f"scale{at}": n.weight_scale, f"bias{at}": n.bias}
    ...         np.savez(out / "model.npz", **arrays)
    ...         return (out / "model.npz",)
    ...
    ...     def export_float(self, lowered, out):
    ...         np.savez(out / "float.npz", *[node.weight * node.weight_scale[:, None] for node in lowered.nodes])
    ...         return (out / "float.npz",)
    ...
    ...     def load(self, path):
    ...         file, nodes, tensors = np.load(path), [], {}
    ...         for at, (scale, *bounds) in enumerate(file["grids"]):
    ...             tensors[f"t{at}"] = QParams(scale, *map(int, bounds), "uint8")
    ...         for at, name in enumerate(file["names"]):
    ...             node = Node(str(name), "linear", (f"t{at}",), f"t{at + 1}", weight=file[f"weight{at}"])
    ...             nodes.append(replace(node, weight_scale=file[f"scale{at}"], bias=file[f"bias{at}"]))
    ...         shape = nodes[0].weight.shape[1:]
    ...         return IntegerRunner(Lowered(tuple(nodes), tensors, "t0", f"t{len(nodes)}", shape))
    ...
    ...     def inspect(self, path):
    ...         names = tuple(str(name) for name in np.load(path)["names"])
    ...         return self.load(path), KernelProof("numpy", {"matmul": len(names)}, {}, integer_nodes=names)

    What it makes of a model is proven as with every other format:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from torch import nn
    >>> from fl_core.export.artifact import Origin
    >>> from fl_core.export.make import ExportRequest, make_artifact
    >>> from fl_core.quant.forward import outputs
    >>> from fl_core.quant.lower import lower
    >>> from fl_core.quant.prepare import prepare_qat
    >>> from fl_core.quant.spec import QuantSpec
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> qat = prepare_qat(net, QuantSpec(), (4,), (-1.0, 1.0))
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 4)).astype(np.float32)
    >>> reference = outputs(qat, x, fake_quant=True)
    >>> request = ExportRequest(lower(qat), x, reference, classes=True, origin=Origin("example", round=1))
    >>> with TemporaryDirectory() as folder:
    ...     made = make_artifact(request, Npz(), Path(folder) / "npz")
    >>> list(made.artifact.files), made.artifact.parity.exact_fraction, made.runner.run(x).shape
    (['model.npz'], 1.0, (100, 3))
    """

    @property
    def name(self) -> str:
        """The format's name in configs, folders and ``artifact.json``."""

    @property
    def proof(self) -> Proof:
        """Whether the runtime is here when an artefact is made; with ``on_device`` nothing calls ``inspect``."""

    def unsupported(self, lowered: Lowered) -> list[str]:
        """Reasons why this model cannot become this format, each naming its node; empty when it can."""

    def limits(self, lowered: Lowered, classes: bool) -> ParityLimits:
        """How far this runtime's answers for this model may be from the fake-quant forward's: its own gate.

        ``classes`` says that the largest output names a class, so that agreement on it is asked for too.
        """

    def export(self, lowered: Lowered, out: Path, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        """Writes the artefact into the folder ``out`` and gives the paths of its files there, the entry file first.

        The entry file is the one that ``load`` and ``inspect`` take; it finds the others beside it by their names. The
        same model and metadata give the same bytes, so that hashes name a model.

        Raises:
            ExportError: ``unsupported`` gave reasons, or the format's own checker refuses a file.
        """

    def export_float(self, lowered: Lowered, out: Path) -> tuple[Path, ...]:
        """Writes the float32 twin of the same graph into ``out``, entry file first: the baseline of figures.

        It uses no file name that ``export`` uses.
        """

    def load(self, path: Path) -> Runner:
        """Loads the entry file of an artefact in the real runtime: one thread, deterministic.

        Raises:
            ExportError: the runtime is not installed or refuses the file.
        """

    def inspect(self, path: Path) -> tuple[Runner, KernelProof]:
        """Loads the entry file as ``load`` does, once, and counts the kernels of what was loaded.

        Raises:
            ExportError: as ``load``.
        """
