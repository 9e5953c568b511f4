"""A second board on one machine is told which ports are taken, by their options, and which are free."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from fl_client.board.supervise import Ports
from support.boards import CLIENT, ENVIRONMENT, ROOT, make_home


def test_a_board_whose_ports_another_one_has_ends_with_their_numbers_and_options(tmp_path):
    home = make_home(tmp_path)
    (home / "keys").mkdir()
    identity = {"client_id": CLIENT, "host": "localhost", "port": 1, "folder": "none"}
    (home / "keys" / "identity.json").write_text(json.dumps(identity))
    with socket.socket() as first, socket.socket() as second:
        taken = []
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
            each.listen()
            taken.append(each.getsockname()[1])
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "fl_client.cli", "run", "--home", str(home)),
                *("--forwarder-port", str(taken[0]), "--metrics-port", str(taken[1])),
            ],
            env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"something listens on --forwarder-port {taken[0]} --metrics-port {taken[1]};" in line
    assert "give this one others, such as --forwarder-port" in line
    assert "--supernode-port" not in line


def test_the_ports_of_a_node_without_a_trainer_are_its_own_two():
    assert Ports(1, 2, None).by_option() == {"--forwarder-port": 1, "--supernode-port": 2}
