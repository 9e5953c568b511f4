"""Measures the memory of a board, part by part, beside stock Flower on the same work, and what each model needs.

    python benchmarks/board_memory.py            # at rest and while training, beside stock Flower
    python benchmarks/board_memory.py --models   # what a board of 1, 2 and 4 GB can train

Memory is PSS as on a machine of its own (see footprint.py), in MB of 10^6 bytes. Stock Flower trains in the process
that it starts for each message, as its examples do, with the same model, data, noise and ledger.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from shared.board_data import CLIENT
from shared.footprint import SizesByPart, at_rest, recorded, total
from shared.printing import Figures, show
from stock_flower import stock_up

from fl_client.shell.socket_trainer import SocketTrainer
from fl_core.config import load_config
from fl_core.privacy.policy import DevicePolicy
from fl_core.process.command import errors_as_lines
from fl_core.questions import INFO, TRAIN
from fl_core.records import decode_info, encode_plan
from fl_core.tensorfile import encode_tensors
from fl_server.deploy.home import ServerHome
from fl_server.deploy.operations import want_run
from fl_server.plan.tasks import plan_of
from fl_server.plan.validate import checked_setup
from fl_server.watch.words import ABSENT
from simulation.local_fleet import LocalFleet, federation_up

MB = 1e6
ROUNDS, LONGEST_S = 2, 900.0
BESIDE_MB = 300.0
"""Supervisor, forwarder, SuperNode, SuperExec and shell, as the comparison prints them, rounded up."""
SYSTEM_MB = 250.0
"""What a system without a desktop keeps for itself; an assumption."""
BOARDS_MB = (1024.0, 2048.0, 4096.0)
"""Boards of 1, 2 and 4 GB."""
STATES = ("at rest, before a task", "while training", "at rest, afterwards")
ORDER = ("supervisor", "forwarder", "SuperNode", "SuperExec", "app", "trainer", "other")


@dataclass(frozen=True)
class MemoryRow:
    """A model to train: its data's shape and outputs, the expected batch, and the model's args."""

    model: str
    shape: tuple[int, ...]
    outputs: int
    batch: int
    args: Mapping[str, Any]
    task: str = "classification"


ROWS = (
    MemoryRow("imu_bank", (6, 100), 7, 512, {}),
    MemoryRow("image_bank", (1, 28, 28), 10, 512, {}),
    MemoryRow("autoencoder", (640,), 640, 32, {}, "reconstruction"),
    MemoryRow("ds_cnn", (1, 49, 10), 12, 32, {}),
    MemoryRow("ds_cnn", (1, 49, 10), 12, 128, {}),
    MemoryRow("resnet8", (3, 32, 32), 10, 32, {}),
    MemoryRow("resnet8", (3, 32, 32), 10, 128, {}),
    MemoryRow("efficientnet_lite0", (3, 65, 65), 10, 32, {"pretrained": False}),
    MemoryRow("efficientnet_lite0", (3, 65, 65), 10, 32, {"pretrained": False, "trained_blocks": 2}),
)


def made(row: MemoryRow) -> dict[str, Any]:
    """Where the examples of a row come from."""
    args = {"shape": list(row.shape), "outputs": row.outputs, "number": 512, "labels": row.task == "classification"}
    return {"factory": "shared.board_data:examples", "args": args}


def config_of(row: MemoryRow) -> dict[str, Any]:
    """A run that trains a row's model privately."""
    return {
        "run": {"name": "memory", "rounds": ROUNDS},
        "data": made(row),
        "task": {"name": row.task},
        "model": {"name": row.model, "args": dict(row.args)},
        "clients": {"batch_size": row.batch, "local_steps": 2},
        "privacy": {"epsilon": 8.0},
        "round": {"deadline_s": 600, "quorum": 1.0},
        "export": {"formats": []},
    }


TASKS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "smartwatch": (
        {
            **yaml.safe_load(Path("fl_server/deploy/fleet.yaml").read_text()),
            "run": {"name": "memory", "rounds": ROUNDS},
            "round": {"deadline_s": 600, "quorum": 1.0},
        },
        {"name": "smartwatch"},
    ),
    "resnet8": (config_of(ROWS[5]), made(ROWS[5])),
}
"""By name: a config, and the data of the board's ``device.yaml``."""


def ours(folder: Path, config: Path, data: Mapping[str, Any]) -> list[SizesByPart]:
    """A board of this project in each of ``STATES``."""
    federation = LocalFleet(folder, config, [CLIENT], (), {"data": dict(data)})
    with federation_up(federation, lambda line: print(line, file=sys.stderr)) as live:
        board = live.boards[CLIENT]
        before = at_rest(board)
        with recorded(board) as recording:
            run = want_run(ServerHome.open(federation.server), load_config(config), overwrite=False)
            _wait(lambda: (run / "summary.json").exists(), "a run")
        return [before, recording.peak(), at_rest(board)]


def stock(folder: Path, config: Path, whole_opacus: bool) -> list[SizesByPart]:
    """Stock Flower in each of ``STATES``."""
    with stock_up(folder) as flower:
        before = at_rest(flower.supernode)
        with recorded(flower.supernode) as recording:
            flower.run(config, CLIENT, 1, whole_opacus)
        return [before, recording.peak(), at_rest(flower.supernode)]


def compared(task: str, folder: Path) -> Figures:
    """One task on both, and stock Flower with and without the parts of Opacus that nobody needs."""
    plain, data = TASKS[task]
    config = folder / f"{task}.yaml"
    config.write_text(yaml.safe_dump(dict(plain)))
    found = {
        "this project": ours(folder / f"{task}-ours", config, data),
        "stock Flower": stock(folder / f"{task}-stock", config, whole_opacus=True),
        "stock Flower, Opacus in part": stock(folder / f"{task}-part", config, whole_opacus=False),
    }
    rows = [
        (f"{state}: {name}", *_cells(boards[number]), _ratio(found["this project"][number], boards[number]))
        for number, state in enumerate(STATES)
        for name, boards in found.items()
    ]
    columns = ("MB of PSS", *ORDER[:-1], "all", "RSS of all", "this project / this")
    return Figures(f"Memory of a board: {task}", columns, tuple(rows))


def trainer_alone(row: MemoryRow, folder: Path) -> tuple[float, float, int]:
    """MB that a trainer takes before its first task and at the peak of a row's, and the model's trained parameters."""
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(config_of(row)))
    _, setup = checked_setup(load_config(config))
    home = folder / "home"
    home.mkdir()
    (home / "device.yaml").write_text(yaml.safe_dump({"client_id": CLIENT, "data": made(row), "threads": 1}))
    policy = DevicePolicy(8.0, 1e-5, max_clip_norm=1.0, min_noise_multiplier=0.1, max_sample_rate=1.0)
    policy.save(home / "policy.json")
    tensors = setup.initial_state().model
    with trainer_up(home) as process:
        asked = SocketTrainer(home / "run" / "trainer.sock", patience_s=300.0)
        info = decode_info(asked.ask(INFO, ()), CLIENT)
        before = total(at_rest(process)).pss / MB
        with recorded(process) as recording:
            asked.ask(TRAIN, (encode_plan(plan_of(setup, info, 1, 0)), encode_tensors(tensors)))
        return before, total(recording.peak()).pss / MB, sum(tensor.size for tensor in tensors.values())


@contextmanager
def trainer_up(home: Path) -> Iterator[psutil.Popen]:
    """The resident trainer of a home, without anything else of a board."""
    env = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    with (home / "log").open("wb") as log:
        words = [sys.executable, "-m", "fl_client.trainer", "--home", str(home)]
        process = psutil.Popen(words, env=env, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def models() -> Figures:
    """What each model takes, and the smallest board that can train it."""
    rows = []
    for row in ROWS:
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            before, peak, parameters = trainer_alone(row, Path(folder))
        print(f"{row.model}: {before:.0f} MB, {peak:.0f} MB", file=sys.stderr)
        needed = peak + BESIDE_MB + SYSTEM_MB
        board = next((f"{size / 1024:.0f} GB" for size in BOARDS_MB if needed < size * 1.048576), ABSENT)
        blocks = f", {row.args['trained_blocks']} blocks" if "trained_blocks" in row.args else ""
        shape = " x ".join(map(str, row.shape))
        figures = (f"{parameters:,}", str(row.batch), f"{before:.0f}", f"{peak:.0f}", f"{peak + BESIDE_MB:.0f}", board)
        rows.append((f"{row.model}{blocks}", shape, *figures))
    columns = ("model", "input", "trained parameters", "batch", "trainer, MB", "at the peak", "whole board", "smallest")
    notes = (
        f"Whole board: with {BESIDE_MB:.0f} MB of the other processes. Smallest board: with {SYSTEM_MB:.0f} MB more, "
        "an assumption, for a system without a desktop; no swap.",
        "512 examples, per-example DP-SGD. More than 128 examples of a batch are never in memory at once.",
    )
    return Figures("What a board can train", columns, tuple(rows), notes)


def _cells(board: SizesByPart) -> tuple[str, ...]:
    whole = total(board)
    parts = (board.get(name) for name in ORDER[:-1])
    each = (ABSENT if part is None else f"{part.pss / MB:.0f}" for part in parts)
    return (*each, f"{whole.pss / MB:.0f}", f"{whole.rss / MB:.0f}")


def _ratio(mine: SizesByPart, board: SizesByPart) -> str:
    return f"{total(mine).pss / total(board).pss:.2f}"


def _wait(ready: Any, what: str) -> None:
    ends = time.monotonic() + LONGEST_S
    while not ready():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what}: expected within {LONGEST_S:g} s")
        time.sleep(0.2)


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", action="store_true", help="what each model takes, without stock Flower")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--markdown", action="store_true", help="tables that can be pasted into a text")
    given = parser.parse_args(words)
    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with errors_as_lines("interrupted; everything was taken down"):
        if given.models:
            show([models()], given.markdown)
            return 0
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            show([compared(task, Path(folder)) for task in given.tasks], given.markdown)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
