"""How a command ends where the operating system refuses: a line, exit code 8, and the command that goes on."""

from __future__ import annotations

import errno
import io
import os
import signal

import pytest

from fl_core.errors import RunFolderError
from fl_core.process.command import errors_as_lines

FULL = OSError(errno.ENOSPC, "No space left on device", "runs/toy/events.jsonl")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FULL, "make room there"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "let this user write there"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), "choose a shorter name"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
    ],
)
def test_an_error_of_the_operating_system_is_a_line_with_exit_code_8(
    error: OSError, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_as_lines(go_on=lambda: "fl-sim resume runs/toy"):
        raise error
    assert ended.value.code == RunFolderError.exit_code == 8
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert lines[0].endswith("then go on with: fl-sim resume runs/toy")


def test_standard_error_on_the_full_disk_costs_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullStream(io.StringIO):
        def write(self, text: str) -> int:
            raise FULL

    monkeypatch.setattr("sys.stderr", FullStream())
    with pytest.raises(SystemExit) as ended, errors_as_lines():
        raise FULL
    assert ended.value.code == 8


def test_a_reader_that_has_heard_enough_is_left_to_click(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError), errors_as_lines():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert capsys.readouterr().err == ""


def test_a_second_ctrl_c_does_not_disturb_the_end_of_an_interrupted_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended, errors_as_lines("interrupted; call it again"):
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; call it again\n"
