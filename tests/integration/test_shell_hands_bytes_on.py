"""A shell hands on what it gets: no tensor, plan or update is read in its process, and no byte of it is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from fl_client.shell.socket_trainer import SocketTrainer
from fl_core.privacy.ledger import Ledger
from fl_core.records import encode_plan
from fl_core.tensorfile import encode_tensors
from fl_core.update import decode_update
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import plan_of
from support.boards import CLIENT, ENVIRONMENT, info_of, make_home, trainer_process

READERS = ("safetensors", "torch", "fl_client.trainer", "fl_core.models", "fl_core.update")
"""What a process needs that reads a model or a plan; numpy is not among it, for Flower itself loads it."""
SHELL = """
import json, sys
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict

from fl_core.flower_private import identify_process
from fl_client.app import app

folder, socket, readers = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
identify_process(1)
records = {"plan": ConfigRecord({"json": (folder / "plan").read_text()})}
model = (folder / "model").read_bytes()
half = len(model) // 2
records |= {f"model.{n}": ConfigRecord({"bytes": part}) for n, part in enumerate((model[:half], model[half:]))}
message = Message(RecordDict(records), 2, "train")
reply = app(message, Context(1, 2, {"trainer-socket": socket}, RecordDict(), {}))
if reply.has_error():
    print(json.dumps({"error": reply.error.reason}))
else:
    (folder / "update").write_bytes(reply.content["update.0"]["bytes"])
    print(json.dumps({"loaded": [name for name in readers if name in sys.modules]}))
"""


def shell(folder: Path, home: Path) -> dict[str, object]:
    """What a shell of its own says that trains the task in ``folder``."""
    words = [sys.executable, "-c", SHELL, str(folder), str(home / "run" / "trainer.sock"), json.dumps(READERS)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=ENVIRONMENT)
    return dict(json.loads(done.stdout))


@pytest.fixture
def task(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with the bytes of a plan and a model, and the home of the board that they are for."""
    home = make_home(tmp_path / "board")
    return tmp_path, home


def write_task(folder: Path, home: Path, **changes: object) -> None:
    config = toy.config(folder / "runs", privacy={"epsilon": 8.0}, clients={"local_steps": 2})
    setup = Setup.of(config, toy.data())
    plan = plan_of(setup, info_of(SocketTrainer(home / "run" / "trainer.sock", 20)), 1, 0)
    fields = json.loads(encode_plan(plan)) | changes
    (folder / "plan").write_text(json.dumps(fields))
    (folder / "model").write_bytes(encode_tensors(setup.initial_state().model))


def test_a_shell_reads_neither_model_nor_update_and_changes_none_of_their_bytes(task):
    folder, home = task
    with trainer_process(home):
        write_task(folder, home)
        assert shell(folder, home) == {"loaded": []}
    update = (folder / "update").read_bytes()
    task_id = json.loads((folder / "plan").read_text())["task_id"]
    ledger = Ledger(home / "ledger.sqlite")
    assert ledger.reply(CLIENT, task_id) == update
    ledger.close()
    assert decode_update(update, CLIENT).task_id == task_id


def test_a_plan_of_another_version_is_refused_by_name_though_the_shell_does_not_read_it(task):
    folder, home = task
    with trainer_process(home):
        write_task(folder, home, code_version="9.9.9")
        assert "code 9.9.9" in str(shell(folder, home)["error"])
