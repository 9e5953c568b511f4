"""A full disk ends a run with one line and blames no client, and what is there goes on to the same model afterwards."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import toy
from typer.testing import CliRunner

from fl_core.config import Config, to_yaml
from fl_core.runlog import Event, is_finished, read_events
from fl_core.tree import digest
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.cli import app
from simulation.run import resume, run
from support.disks import files_of_at_most, make_room, small_disk

NOBODY_S_FAULT = ("client_failed", "client_refused", "artifact_vetoed")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return model_of(run(config_in(tmp_path_factory.mktemp("undisturbed"))))


def config_in(out: Path) -> Config:
    return toy.config(out, privacy={"epsilon": 8.0}, strategy={"name": "fedavgm"}, clients={"local_steps": 2})


def model_of(run_dir: Path) -> tuple[str, ...]:
    checkpoint = load_checkpoint(run_dir / "checkpoint")
    assert checkpoint is not None
    state = checkpoint.state
    return (digest(state.model), *(digest(state.slots[name]) for name in sorted(state.slots)))


def check_whole(run_dir: Path, undisturbed: tuple[str, ...], workers: int = 1) -> None:
    """What is there is whole and says nothing of clients, and goes on to the same model."""
    assert not list(run_dir.rglob("*.tmp"))
    events = list(read_events(run_dir))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert not [event for event in events if event["kind"] in NOBODY_S_FAULT]
    assert is_finished(resume(run_dir, workers))
    assert model_of(run_dir) == undisturbed


class FullFrom:
    """Is told events, and from one of them on no file grows beyond a size; every writer meets that in its turn."""

    def __init__(self, kind: str, round: int, limit_bytes: int) -> None:
        self._from = (kind, round)
        self._limit_bytes = limit_bytes
        self._stack = ExitStack()

    @contextmanager
    def disk(self) -> Iterator[None]:
        with self._stack:
            yield

    def __call__(self, event: Event) -> None:
        if (event["kind"], event["round"]) == self._from:
            self._stack.enter_context(files_of_at_most(self._limit_bytes))


@pytest.mark.parametrize(
    ("kind", "round", "limit_bytes"),
    [
        ("client_finished", 1, 3000),
        ("round_finished", 2, 6000),
        ("round_published", 3, 0),
    ],
)
def test_whichever_file_is_refused_the_run_ends_whole_and_goes_on_to_the_same_model(
    tmp_path: Path, undisturbed: tuple[str, ...], kind: str, round: int, limit_bytes: int
) -> None:
    full = FullFrom(kind, round, limit_bytes)
    with full.disk(), pytest.raises(OSError) as refused:  # noqa: PT011  # whichever file it is
        run(config_in(tmp_path), listeners=[full])
    assert refused.value.errno in (errno.EFBIG, errno.EIO)
    assert str(tmp_path / "toy") in str(refused.value.filename)
    check_whole(tmp_path / "toy", undisturbed)


@pytest.mark.parametrize("kilobytes", [136, 350])
def test_a_disk_that_is_really_full_is_one_line_with_the_command_that_goes_on(
    tmp_path: Path, undisturbed: tuple[str, ...], kilobytes: int
) -> None:
    config_file, disk = tmp_path / "toy.yaml", tmp_path / "disk"
    config_file.write_text(to_yaml(config_in(disk)))
    with small_disk(disk, kilobytes):
        result = CliRunner().invoke(app, ["run", str(config_file)], env={"COLUMNS": "400", "TERM": "dumb"})
        assert result.exit_code == 8
        lines = [line for line in result.stderr.splitlines() if "round" not in line]
        assert len(lines) == 1
        assert "B free); make room there, then go on with: fl-sim resume" in lines[0]
        make_room(disk)
        if (disk / "toy" / "events.jsonl").exists():
            check_whole(disk / "toy", undisturbed)
        else:
            assert model_of(resume(disk / "toy")) == undisturbed


@pytest.mark.slow
def test_a_full_disk_under_worker_processes_is_no_client_s_failure(
    tmp_path: Path, undisturbed: tuple[str, ...]
) -> None:
    with small_disk(tmp_path / "disk", 300):
        with pytest.raises(OSError) as refused:  # noqa: PT011
            run(config_in(tmp_path / "disk"), workers=2)
        assert refused.value.errno in (errno.ENOSPC, errno.EIO)
        make_room(tmp_path / "disk")
        check_whole(tmp_path / "disk" / "toy", undisturbed, workers=2)
