"""One suite that every exporter passes, over a zoo of lowered models made by hand.

The promises: the artefact in its runtime agrees with the independent integer evaluator, its convolutions and matrix
products run on integers, the same model gives the same bytes, golden inputs repeat bit for bit, and nothing that was
tampered with or fails the gate can be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lowered_zoo import ZOO, Sketch, examples, image_net, imu_net, look_up_net, reference, residual_net

from fl_core.errors import ConfigError, ExportError, ParityError
from fl_core.export.artifact import Artifact, Origin, load_artifact, replay
from fl_core.export.base import Exporter, KernelProof
from fl_core.export.make import ExportRequest, make_artifact
from fl_core.export.registry import EXPORTERS, build_exporter
from fl_core.quant.lowered import Lowered, Node, weighted_layers

ORIGIN = Origin(run="conformance", round=3, epsilon=2.5, labels=("a", "b"), preprocessing={"window": 128})
GRIDS_AND_BITS = (("asymmetric", 8), ("symmetric", 8), ("asymmetric", 2), ("symmetric", 4))
CASES = [
    pytest.param(make(grid, bits), id=f"{name}-{grid}-{bits}bit")
    for name, make in ZOO.items()
    for grid, bits in GRIDS_AND_BITS
]
every_model = pytest.mark.parametrize("lowered", CASES)


@pytest.fixture(params=list(EXPORTERS))
def exporter(request: pytest.FixtureRequest) -> Exporter:
    return build_exporter(request.param)


def publish(lowered: Lowered, exporter: Exporter, out: Path) -> Artifact:
    """Makes an artefact with the evaluator's outputs as the reference."""
    x = examples(lowered)
    return make_artifact(ExportRequest(lowered, x, reference(lowered, x), True, ORIGIN), exporter, out).artifact


def entry(lowered: Lowered, exporter: Exporter, out: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Exports without a proof and gives the file that the runtime takes."""
    return exporter.export(lowered, out, metadata or {})[0]


def kernels_of(exporter: Exporter, path: Path) -> KernelProof:
    """What the runtime makes of a file."""
    return exporter.inspect(path)[1]


@every_model
def test_artefact_equals_the_integer_evaluator(lowered: Lowered, exporter: Exporter, tmp_path: Path) -> None:
    x = examples(lowered, 200)
    runner = exporter.load(entry(lowered, exporter, tmp_path))
    assert runner.output_scale == np.float32(lowered.tensors[lowered.output].scale)
    expected = np.rint(reference(lowered, x) / np.float32(runner.output_scale))
    got = runner.integers(x)
    assert np.unique(got).size > 40  # the outputs use the grid, so that agreement means something
    assert np.abs(got - expected).max() <= 1
    assert np.mean(got == expected) > 0.995
    assert np.array_equal(runner.run(x), got.astype(np.float32) * np.float32(runner.output_scale))


@every_model
def test_every_layer_runs_on_integers(lowered: Lowered, exporter: Exporter, tmp_path: Path) -> None:
    proof = kernels_of(exporter, entry(lowered, exporter, tmp_path))
    proof.check(weighted_layers(lowered))
    assert proof.float_elementwise == {}


@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding"),
    [
        ((8, 24), (2,), (2,), (0,)),
        ((5, 24), (6,), (3,), (2,)),
        ((1, 24), (24,), (24,), (0,)),
        ((8, 12, 12), (2, 2), (2, 2), (0, 0)),
        ((3, 12, 10), (3, 2), (1, 2), (1, 1)),
        ((48, 4, 4), (4, 4), (4, 4), (0, 0)),
    ],
)
def test_ties_of_average_pooling_are_exact(
    grid: str,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    exporter: Exporter,
    tmp_path: Path,
) -> None:
    net = Sketch(grid, shape)
    output = net.add("avg_pool", "input", None, kernel=kernel, stride=stride, padding=padding)
    lowered = Lowered(tuple(net.nodes), net.tensors, "input", output, shape)
    x = examples(lowered, 100)
    expected = np.rint(reference(lowered, x) / np.float32(net.tensors[output].scale))
    path = entry(lowered, exporter, tmp_path)
    assert np.array_equal(exporter.load(path).integers(x), expected)
    proof = kernels_of(exporter, path)
    assert proof.float_kernels == proof.float_elementwise == {}


@every_model
def test_same_model_gives_same_bytes(lowered: Lowered, exporter: Exporter, tmp_path: Path) -> None:
    first, again = (entry(lowered, exporter, tmp_path / name, {"run": "r"}).read_bytes() for name in "ab")
    assert first == again
    assert first != entry(lowered, exporter, tmp_path / "c", {"run": "s"}).read_bytes()


@every_model
def test_batch_size_does_not_change_an_answer(lowered: Lowered, exporter: Exporter, tmp_path: Path) -> None:
    x = examples(lowered, 300)
    runner = exporter.load(entry(lowered, exporter, tmp_path))
    whole = runner.run(x)
    assert np.array_equal(whole[:3], np.concatenate([runner.run(x[index : index + 1]) for index in range(3)]))
    assert np.array_equal(whole[250:], runner.run(x[250:]))


@every_model
def test_artefact_survives_its_record_and_replays(lowered: Lowered, exporter: Exporter, tmp_path: Path) -> None:
    made = publish(lowered, exporter, tmp_path / "out")
    read, runner = load_artifact(tmp_path / "out")
    assert replace(read, golden=made.golden) == made
    assert np.array_equal(read.golden.inputs, made.golden.inputs)
    assert np.array_equal(runner.integers(made.golden.inputs), read.golden.outputs)
    replay(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_weights_cost_a_quarter_of_float(exporter: Exporter, tmp_path: Path) -> None:
    base = residual_net("asymmetric")
    wide = replace(base, nodes=(*base.nodes[:-1], _widened(base.nodes[-1])))
    small, large = (
        (entry(model, exporter, tmp_path).stat().st_size, exporter.export_float(model, tmp_path)[0].stat().st_size)
        for model in (base, wide)
    )
    assert (large[0] - small[0]) / (large[1] - small[1]) < 0.6  # scales and biases of 2000 outputs are not int8


def _widened(node: Node) -> Node:
    assert node.weight is not None
    assert node.weight_scale is not None
    assert node.bias is not None
    return replace(
        node,
        weight=np.tile(node.weight, (500, 1)),
        weight_scale=np.tile(node.weight_scale, 500),
        bias=np.tile(node.bias, 500),
    )


def test_float_kernels_are_found(exporter: Exporter, tmp_path: Path) -> None:
    """The proof itself must be able to fail: it is given a model that really runs in float."""
    lowered = image_net("asymmetric")
    proof = kernels_of(exporter, exporter.export_float(lowered, tmp_path)[0])
    assert sum(proof.float_kernels.values()) == len(weighted_layers(lowered))
    assert proof.integer_kernels == {}
    assert proof.integer_nodes == ()
    with pytest.raises(ExportError, match="expected integer kernels only"):
        proof.check(weighted_layers(lowered))


@every_model
def test_the_kernel_of_every_layer_is_known_by_name(lowered: Lowered, exporter: Exporter, tmp_path: Path) -> None:
    proof = kernels_of(exporter, entry(lowered, exporter, tmp_path))
    assert set(weighted_layers(lowered)) <= set(proof.integer_nodes) <= {node.name for node in lowered.nodes}
    assert len(set(proof.integer_nodes)) == len(proof.integer_nodes) == sum(proof.integer_kernels.values())


def test_a_pooling_cannot_stand_in_for_a_missing_layer(exporter: Exporter, tmp_path: Path) -> None:
    lowered = image_net("asymmetric")
    layers = weighted_layers(lowered)
    proof = kernels_of(exporter, entry(lowered, exporter, tmp_path))
    others = tuple(name for name in proof.integer_nodes if name != layers[1])
    pooled = replace(proof, integer_nodes=(*others, "another pooling", "and another"))
    with pytest.raises(ExportError, match=rf"an integer kernel for every layer, got none for \['{layers[1]}'\]"):
        pooled.check(layers)


@pytest.mark.parametrize("make", list(ZOO.values()), ids=list(ZOO))
def test_tampered_file_is_refused(make: Callable[..., Lowered], exporter: Exporter, tmp_path: Path) -> None:
    made = publish(make("asymmetric"), exporter, tmp_path / "out")
    path = tmp_path / "out" / made.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    for read in (load_artifact, replay):
        with pytest.raises(ExportError, match="SHA-256"):
            read(tmp_path / "out")


def test_wrong_reference_is_vetoed_and_the_last_good_stays(exporter: Exporter, tmp_path: Path) -> None:
    lowered, out = imu_net("asymmetric"), tmp_path / "out"
    good = publish(lowered, exporter, out)
    x = examples(lowered)
    wrong = reference(lowered, x) + np.float32(2 * lowered.tensors[lowered.output].scale)
    with pytest.raises(ParityError, match="expected at most 1 LSB, got 2"):
        make_artifact(ExportRequest(lowered, x, wrong, True, ORIGIN), exporter, out)
    assert load_artifact(out)[0].files == good.files
    with pytest.raises(ExportError, match="vetoed: parity"):
        load_artifact(tmp_path / "out.vetoed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.vetoed"]
    publish(lowered, exporter, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_wrong_examples_are_refused(exporter: Exporter, tmp_path: Path) -> None:
    lowered = imu_net("asymmetric")
    runner = exporter.load(entry(lowered, exporter, tmp_path))
    shapes: Sequence[tuple[int, ...]] = ((2, 6, 31), (6, 32), (0, 6, 32))
    for shape in shapes:
        with pytest.raises(ExportError, match="expected examples of shape"):
            runner.run(np.zeros(shape, np.float32))


def test_damaged_file_is_an_export_error(exporter: Exporter, tmp_path: Path) -> None:
    path = entry(imu_net("asymmetric"), exporter, tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ExportError, match="refuses"):
        exporter.load(path)


def test_what_cannot_be_exported_is_refused_by_name(exporter: Exporter, tmp_path: Path) -> None:
    lowered = look_up_net("asymmetric")
    unknown = replace(lowered.nodes[1], attrs={"function": "gelu"})
    broken = replace(lowered, nodes=(lowered.nodes[0], unknown, *lowered.nodes[2:]))
    assert exporter.unsupported(lowered) == []
    assert exporter.unsupported(broken) == ["node n1: expected one of hard_swish, sigmoid, got gelu"]
    with pytest.raises(ExportError, match="node n1"):
        exporter.export(broken, tmp_path, {})


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        build_exporter("onxx")
