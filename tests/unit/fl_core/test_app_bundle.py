"""A board runs its own code for the bundle that this version generates, and nothing of any other bundle."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import ErrorCode
from flwr.supernode.runtime import run_clientapp

import fl_core
from fl_core.bundle import bundle_files, check_bundle
from fl_core.errors import WireError
from fl_server.deploy.bundle import write_bundle

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of what flwr imports
VERSION = f'version = "{fl_core.__version__}"'


def packed(folder: Path, **changed: str) -> bytes:
    """The bundle as Flower's own command packs it, with other text in some of its files."""
    write_bundle(folder)
    for name, text in changed.items():
        (folder / name).write_text(text)
    return build_fab_from_disk(folder)


def pyproject(old: str, new: str) -> str:
    text = bundle_files()["pyproject.toml"].decode()
    assert old in text
    return text.replace(old, new)


def test_the_generated_bundle_is_taken_as_flower_packs_it(tmp_path):
    check_bundle(packed(tmp_path))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"client_side.py": "from fl_client.app import app\nprint(1)\n"}, "client_side.py: .*other text"),
        ({"server_side.py": bundle_files()["server_side.py"].decode() + "\n"}, "server_side.py: .*other text"),
        ({"more.py": ""}, "more.py: .*got 1 of that name"),
        ({"pyproject.toml": pyproject('"client_side:app"', '"http.server:test"')}, "pyproject.toml: .*other fields"),
        ({"pyproject.toml": pyproject(VERSION, 'version = "0.0.9"')}, "pyproject.toml: .*that of version '0.0.9'"),
    ],
)
def test_any_other_bundle_is_refused_and_the_file_that_differs_is_named(tmp_path, changed, words):
    with pytest.raises(WireError, match=f"^app bundle: {words}"):
        check_bundle(packed(tmp_path, **changed))


def test_an_archive_with_a_file_twice_or_too_few_is_refused(tmp_path):
    path = tmp_path / "twice.fab"
    path.write_bytes(packed(tmp_path / "app"))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("client_side.py", "print(1)\n")
    with pytest.raises(WireError, match=r"client_side\.py: .*got 2 of that name"):
        check_bundle(path.read_bytes())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pyproject.toml", "")
    with pytest.raises(WireError, match=r"\.info/CONTENT: .*got 0 of that name"):
        check_bundle(path.read_bytes())
    with pytest.raises(WireError, match="expected a readable archive"):
        check_bundle(b"no archive")


SHELL = """
import os, sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
import fl_core
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supercore.superexec.executor.types import ExecutionSpec
from flwr.supernode.runtime import run_clientapp
from fl_core.bundle import check_bundle
from fl_core.flower_private import identify_process, set_message_id, superexec

app = ClientApp()

@app.train()
def train(message, context):
    return Message(RecordDict({"said": ConfigRecord({"by": "the installed app"})}), reply_to=message)

def pull(client):
    identify_process(1)
    message = Message(RecordDict(), 9, "train")
    set_message_id(message, "message-1")
    content = Path(sys.argv[1]).read_bytes()
    run = replace(Run.create_empty(1), fab_id="stonecrop/stonecrop-run", fab_version=fl_core.__version__)
    return message, Context(1, 9, {}, RecordDict(), {}), run, Fab(sha256(content).hexdigest(), content, {})

def push(client, message, context):
    error = message.error if message.has_error() else None
    print("reply:", (error.code, error.reason) if error else message.content["said"]["by"], flush=True)
    os._exit(0)  # there is no SuperNode to say goodbye to

run_clientapp.pull_task_input, run_clientapp.push_message = pull, push
superexec.run_client_app(ExecutionSpec(
    task_type=TaskType.CLIENT_APP, runtime_api_address="127.0.0.1:1", token="a token",
    insecure=True, root_certificates_path=None, runtime_dependency_install=False, parent_pid=None,
    suppress_output=False, task_id=1, fab_hash=None,
), app, check_bundle)
"""
KIND = """
import http.server, threading
from flwr.proto.runtime_pb2 import PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor.types import ExecutionSpec
from fl_core.flower_private import superexec

class SuperNode(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = PushTaskOutputRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        print("the SuperNode hears:", told.sub_status, told.details, flush=True)
        self.send_error(403)

    def log_message(self, *words):
        pass

node = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SuperNode)
threading.Thread(target=node.serve_forever, daemon=True).start()
launched = superexec.forking_executor(None, None).launch(ExecutionSpec(
    task_type=TaskType.AGENT_APP, runtime_api_address=f"127.0.0.1:{node.server_port}", token="a token",
    insecure=True, root_certificates_path=None, runtime_dependency_install=False, parent_pid=None,
    suppress_output=False, task_id=1, fab_hash=None,
))
print(launched.status.name, flush=True)
"""


def said_by(code: str, folder: Path, *arguments: str) -> str:
    environment = {"FLWR_HOME": str(folder / "flower"), "FLWR_TELEMETRY_ENABLED": "0", "PATH": "/nonexistent"}
    root = str(Path(fl_core.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment | {"PYTHONPATH": root}, cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_shell_runs_the_installed_app_for_the_generated_bundle_and_unpacks_nothing(tmp_path):
    (tmp_path / "given.fab").write_bytes(packed(tmp_path / "app"))
    assert "reply: the installed app" in said_by(SHELL, tmp_path, "given.fab")
    assert not list((tmp_path).glob("flower/apps/*"))


def test_a_shell_runs_no_line_of_another_bundle_and_the_server_hears_which_file_differs(tmp_path):
    mark = tmp_path / "mark"
    text = bundle_files()["client_side.py"].decode() + f"open({str(mark)!r}, 'w')\n"
    (tmp_path / "given.fab").write_bytes(packed(tmp_path / "app", **{"client_side.py": text}))
    said = said_by(SHELL, tmp_path, "given.fab")
    assert f"reply: ({ErrorCode.CLIENT_APP_RAISED_EXCEPTION}, " in said
    assert "WireError'>:<'app bundle: client_side.py: expected what Stonecrop" in said
    assert not mark.exists()


def test_a_board_starts_no_task_of_another_kind_and_says_so(tmp_path):
    said = said_by(KIND, tmp_path)
    assert "the SuperNode hears: failed a task of the type" in said
    assert said.endswith("FAILED\n")


def test_a_shell_of_flower_still_installs_and_loads_through_the_two_names_that_are_replaced():
    tree = ast.parse(inspect.getsource(run_clientapp.run_clientapp))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert {"install_from_fab", "get_load_client_app_fn", "load_client_app_fn", "client_app"} <= called
    assert not {name for name in called if "import" in name or name in ("exec", "eval", "load_app")}
