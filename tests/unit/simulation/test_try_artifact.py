"""Trying an artefact: held-out examples only, answers as they are, right and wrong not by colour alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import DataError, ExportError
from simulation.draw import as_curves, draw_answers
from simulation.try_artifact import Trial, answer_table, answers, held_out_part, newest_artifact, pick, verdict
from support.synthetic_run import write_run


def examples(count: int, shape: tuple[int, ...] = (6, 100), seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.normal(size=(count, *shape)).astype(np.float32), np.arange(count) % 3)


def trial_of(part: Examples, outputs: np.ndarray, labels: tuple[str, ...] = ()) -> Trial:
    sources = [f"test set, row {row}" for row in range(len(part))]
    return Trial("onnx", 3, part, outputs, tuple(answers(sources, part.y, outputs, labels)))


def test_the_servers_test_set_comes_before_a_clients_held_out_part_and_training_examples_are_never_used() -> None:
    train, own, server = examples(9), examples(5), examples(7)
    clients = {"b": ClientData(train, own), "a": ClientData(train)}
    assert held_out_part(Federation(clients, test=server)) == ("test set", server)
    assert held_out_part(Federation(clients)) == ("b", own)
    with pytest.raises(DataError, match="expected a server test set"):
        held_out_part(Federation({"a": ClientData(train)}))


def test_picked_rows_are_different_and_the_same_for_the_same_seed() -> None:
    rows = pick(100, 12, seed=3)
    assert len(set(rows.tolist())) == 12
    assert rows.tolist() == pick(100, 12, seed=3).tolist() != pick(100, 12, seed=4).tolist()
    assert sorted(pick(5, 12, seed=3).tolist()) == [0, 1, 2, 3, 4]


def test_a_class_answer_is_the_largest_output_with_its_softmax() -> None:
    truth = np.array([0, 1])
    logits = np.array([[np.log(8.0), 0.0, 0.0], [np.log(2.0), 0.0, 0.0]], np.float32)
    right, wrong = answers(["x", "y"], truth, logits, ("rest", "press", "row"))
    assert (right.said, right.truth, right.right) == ("rest", "rest", True)
    assert right.confidence == pytest.approx(0.8)
    assert (wrong.said, wrong.truth, wrong.right) == ("rest", "press", False)
    assert verdict(right) == "✓ right"
    assert verdict(wrong) == "✗ wrong"


def test_a_regression_stands_beside_the_truth_without_right_or_wrong() -> None:
    (answer,) = answers(["x"], np.array([[1.5, 2.0]], np.float32), np.array([[1.25, 2.5]], np.float32), ())
    assert (answer.said, answer.truth, answer.right, answer.confidence) == ("1.25, 2.5", "1.5, 2", None, None)


def test_a_reconstruction_says_how_far_it_is() -> None:
    x = np.zeros((1, 6, 100), np.float32)
    (answer,) = answers(["x"], x, x + 0.5, ())
    assert answer.said == "root mean square error 0.5"


def test_the_newest_good_artefact_is_taken_even_if_a_later_one_was_vetoed(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path, rounds=3, mishaps=True)
    assert newest_artifact(run_dir) == tmp_path / "rounds" / "0002"
    (tmp_path / "rounds" / "0002" / "onnx").mkdir(parents=True)
    assert newest_artifact(run_dir) == tmp_path / "rounds" / "0002" / "onnx"


def test_a_run_without_an_artefact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected a published artefact"):
        newest_artifact(write_run(tmp_path, rounds=0))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (6, 100), (13,)], ids=str)
@pytest.mark.parametrize("count", [1, 6])
def test_examples_of_every_shape_are_drawn(tmp_path: Path, shape: tuple[int, ...], count: int) -> None:
    part = examples(count, shape)
    draw_answers(trial_of(part, np.eye(3, dtype=np.float32)[np.zeros(count, int)], ("a", "b", "c")), tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 24)) > 16


def test_a_reconstruction_is_drawn_over_its_input(tmp_path: Path) -> None:
    part = Examples(examples(2).x, examples(2).x)
    draw_answers(trial_of(part, part.x + 0.1), tmp_path / "t.png")
    assert (tmp_path / "t.png").stat().st_size > 1000


def test_curves_are_channels_by_time() -> None:
    assert as_curves(np.zeros((6, 100))).shape == (6, 100)
    assert as_curves(np.zeros(13)).shape == (1, 13)
    assert as_curves(np.zeros((2, 3, 4))).shape == (2, 12)


def test_the_table_counts_what_was_right() -> None:
    part = examples(3)
    table = answer_table(trial_of(part, np.eye(3, dtype=np.float32)[[0, 1, 1]]))
    assert table.row_count == 3
    assert table.caption == "2 of 3 right"


def test_the_table_has_no_empty_columns_and_names_the_owner_once() -> None:
    part = Examples(examples(2).x, examples(2).x)
    table = answer_table(trial_of(part, part.x + 0.5))
    assert [column.header for column in table.columns] == ["test set", "answer"]
    assert list(table.columns[0].cells) == ["row 0", "row 1"]
