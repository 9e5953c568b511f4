"""A run goes on in the folder that it left, or not at all: nothing of the rounds that are done may be missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from fl_core.errors import RunFolderError
from fl_core.runlog import Event
from fl_server.rounds.same_run import check_log
from simulation.run import resume
from simulation.run import run as simulate


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private run as a kill in its third round leaves it."""
    out = tmp_path_factory.mktemp("killed")

    def keep(event: Event) -> None:
        if (event["kind"], event["round"]) == ("round_started", 3):
            shutil.copytree(out / "toy", out / "kept")

    simulate(toy.config(out, privacy={"epsilon": 8.0}, export={"formats": []}), listeners=[keep])
    return out / "kept"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_log(folder: Path) -> None:
    (folder / "events.jsonl").unlink()


def empty_log(folder: Path) -> None:
    (folder / "events.jsonl").write_bytes(b"")


def cut_log(folder: Path) -> None:
    data = (folder / "events.jsonl").read_bytes()
    (folder / "events.jsonl").write_bytes(data[: len(data) // 3])


@pytest.mark.parametrize("lose", [no_log, empty_log, cut_log])
def test_a_run_whose_log_lost_events_is_neither_gone_on_with_nor_told_of(
    tmp_path: Path, killed: Path, lose: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(killed, tmp_path / "toy")
    lose(folder)
    before = everything(folder)
    for way in (resume, check_log):
        with pytest.raises(RunFolderError, match=r"events\.jsonl: expected events 1 to \d+, .*, got"):
            way(folder)
    assert everything(folder) == before, "nothing was changed"


def test_a_config_that_was_edited_is_named_field_by_field(tmp_path: Path, killed: Path) -> None:
    folder = shutil.copytree(killed, tmp_path / "toy")
    config = folder / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("delta: 1.0e-05", "delta: 1.0e-04").replace("rounds: 3", "rounds: 5"))
    assert text != config.read_text()
    before = everything(folder)
    with pytest.raises(RunFolderError, match="another config") as refused:
        resume(folder)
    for told in ("privacy.delta: expected 1e-05", "got 0.0001", "run.rounds: expected 3", "got 5"):
        assert told in str(refused.value)
    assert everything(folder) == before, "nothing was changed"


def test_a_line_that_a_crash_tore_is_cut_off(tmp_path: Path, killed: Path) -> None:
    folder = shutil.copytree(killed, tmp_path / "toy")
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"v": 1, "seq')
    assert (resume(folder) / "summary.json").is_file()
