"""The ONNX exporter: int8 in quantize-dequantize form, executed and proven in ONNX Runtime on the CPU.

The file takes float32 and gives float32; between its first and its last node everything is integer. Sessions ask for
exact products: on x86 without VNNI the default kernel for uint8 by int8 saturates its 16-bit sums and answers wrongly.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.errors import ExportError
from fl_core.export.base import IntArray, KernelProof, Proof
from fl_core.export.onnx.forms import INPUT
from fl_core.export.onnx.graph import EMITTERS, build_model
from fl_core.export.parity import ParityLimits
from fl_core.export.tables import TABLE_FUNCTIONS
from fl_core.export.unsupported import reasons_against
from fl_core.quant.lowered import Lowered
from fl_core.storage import naming
from fl_core.types import FloatArray

CHUNK = 256
"""Examples given to the runtime at once: bounds its memory, changes no result."""
_OUTPUT_SCALE = "output_scale"
_MATRIX_WORDS = ("Conv", "Gemm", "MatMul", "Einsum", "Attention", "LSTM", "GRU", "RNN")


class OnnxExporter:
    """Writes ``model.onnx`` and runs it in ONNX Runtime."""

    name = "onnx"
    proof: Proof = "here"

    def unsupported(self, lowered: Lowered) -> list[str]:
        return reasons_against(
            lowered, ops=frozenset(EMITTERS), look_ups=frozenset(TABLE_FUNCTIONS), spatial_ranks=(1, 2)
        )

    def limits(self, lowered: Lowered, classes: bool) -> ParityLimits:
        return ParityLimits.for_model(lowered, classes)

    def export(self, lowered: Lowered, out: Path, metadata: Mapping[str, str]) -> tuple[Path, ...]:
        reasons = self.unsupported(lowered)
        if reasons:
            raise ExportError("onnx: " + "; ".join(reasons))
        scale = repr(float(np.float32(lowered.tensors[lowered.output].scale)))
        return (_write(lowered, out / "model.onnx", integer=True, metadata={**metadata, _OUTPUT_SCALE: scale}),)

    def export_float(self, lowered: Lowered, out: Path) -> tuple[Path, ...]:
        return (_write(lowered, out / "float.onnx", integer=False, metadata={}),)

    def load(self, path: Path) -> OnnxRunner:
        return OnnxRunner(open_session(path), path.name)

    def inspect(self, path: Path) -> tuple[OnnxRunner, KernelProof]:
        """One session answers and is counted: ONNX Runtime writes the optimised graph while it loads the file."""
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            optimised = Path(folder) / "optimised.onnx"
            runner = OnnxRunner(open_session(path, optimised), path.name)
            graph = onnx.load(optimised).graph
        return runner, _count_kernels(graph, f"onnxruntime {onnxruntime.__version__}")


class OnnxRunner:
    """An ONNX Runtime session that answers in real units or in integer steps of the output.

    A float twin answers in real units alone.
    """

    def __init__(self, session: Any, file_name: str) -> None:
        self._session = session
        self._file_name = file_name
        self._example_shape = tuple(session.get_inputs()[0].shape[1:])

    @property
    def output_scale(self) -> float:
        """Size of one LSB of the output, from the file's own metadata.

        Raises:
            ExportError: the file carries none, as a float twin does.
        """
        metadata = self._session.get_modelmeta().custom_metadata_map
        if _OUTPUT_SCALE not in metadata:
            raise ExportError(f"onnx: expected {self._file_name} to carry its {_OUTPUT_SCALE}, got {sorted(metadata)}")
        return float(metadata[_OUTPUT_SCALE])

    def run(self, x_BX: FloatArray) -> FloatArray:
        if x_BX.shape[1:] != self._example_shape or len(x_BX) == 0:
            raise ExportError(f"onnx: expected examples of shape [N, {self._example_shape}], got {x_BX.shape}")
        x_BX = np.ascontiguousarray(x_BX, np.float32)
        chunks = [x_BX[start : start + CHUNK] for start in range(0, len(x_BX), CHUNK)]
        return np.concatenate([self._session.run(None, {INPUT: chunk})[0] for chunk in chunks])

    def integers(self, x_BX: FloatArray) -> IntArray:
        steps: IntArray = np.rint(self.run(x_BX) / np.float32(self.output_scale)).astype(np.int32)
        return steps


def _write(lowered: Lowered, path: Path, integer: bool, metadata: Mapping[str, str]) -> Path:
    import onnx

    try:
        data = build_model(lowered, integer, metadata)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx: the checker refuses the model: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        path.write_bytes(data)
    return path


def open_session(path: Path, optimised: Path | None = None) -> Any:
    """An ONNX Runtime session on one thread, deterministic, with exact integer products on every processor.

    ``optimised`` is where to save the graph as the runtime optimised it.

    Raises:
        ExportError: the runtime is not installed or refuses the file.
        OSError: the disk has no room for the optimised graph, of which the runtime says something else.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError("onnx: expected onnxruntime to be installed, got none") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only: saving an optimised graph warns that it fits this machine alone
    options.add_session_config_entry("session.x64quantprecision", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a different class per status code, all of them direct children
        if optimised is not None:
            with naming(optimised):
                optimised.write_bytes(bytes(2 * path.stat().st_size))
        raise ExportError(f"onnx: ONNX Runtime refuses {path.name}: {error}") from error


def _count_kernels(graph: Any, runtime: str) -> KernelProof:
    """Sorts the nodes of an optimised graph by what they compute on.

    ONNX Runtime saves no types for the values inside, so they are followed from the graph's inputs and constants. It
    may append to the name of a node that it moves, never before the colon.
    """
    from onnx import TensorProto, helper

    types: dict[str, int] = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types.update({constant.name: constant.data_type for constant in graph.initializer})
    entrances, exits = {value.name for value in graph.input}, {value.name for value in graph.output}
    integer_kernels: Counter[str] = Counter()
    float_kernels: Counter[str] = Counter()
    float_elementwise: Counter[str] = Counter()
    integer_nodes: list[str] = []
    for node in graph.node:
        read = TensorProto.UINT8 if node.op_type.startswith("QLinear") else types[node.input[0]]
        if node.op_type == "QuantizeLinear":
            made = types[node.input[2]]
        elif node.op_type == "DequantizeLinear" or (node.op_type == "QGemm" and len(node.input) < 8):
            made = TensorProto.FLOAT
        elif node.op_type == "Cast":
            made = helper.get_node_attr_value(node, "to")
        else:
            made = read
        types.update(dict.fromkeys(node.output, made))
        at_the_edge = node.input[0] in entrances or node.output[0] in exits
        if any(word in node.op_type for word in _MATRIX_WORDS):
            if read == TensorProto.FLOAT:
                float_kernels[node.op_type] += 1
            else:
                integer_kernels[node.op_type] += 1
                integer_nodes.append(node.name.partition(":")[0])
        elif TensorProto.FLOAT in (read, made) and not at_the_edge:
            float_elementwise[node.op_type] += 1
    return KernelProof(
        runtime, dict(integer_kernels), dict(float_kernels), dict(float_elementwise), tuple(integer_nodes)
    )
