"""Why a run stopped is kept until it is wanted again, and says whether another try would meet it too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.errors import DataError, NoUpdateError, RoundError, StorageError
from fl_server.watch.failure import Failure


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError(["a: no", "b: no"]), ("DataError", ["a: no", "b: no"], 3, True)),
        (NoUpdateError("nobody"), ("NoUpdateError", ["nobody"], 6, True)),
        (RoundError("too few"), ("RoundError", ["too few"], 6, False)),
        (StorageError("full"), ("StorageError", ["full"], 8, False)),
        (KeyError("x\ny"), ("KeyError", ["KeyError: 'x\\ny'"], 1, False)),
    ],
)
def test_a_failure_has_its_kind_its_problems_its_code_and_whether_it_is_final(tmp_path: Path, error, told) -> None:
    failure = Failure.at(tmp_path)
    failure.write(error)
    found = failure.read()
    assert found is not None
    assert (found["kind"], found["problems"], found["exit_code"], found["final"]) == told
    assert found["reason"] == "; ".join(told[1])
    assert failure.is_final is told[3]


@pytest.mark.parametrize(("code", "final"), [(3, True), (6, False)])
def test_the_file_of_an_older_version_is_read(tmp_path: Path, code: int, final: bool) -> None:
    (tmp_path / "failure.json").write_text(json.dumps({"kind": "DataError", "reason": "a: no", "exit_code": code}))
    found = Failure.at(tmp_path).read()
    assert found is not None
    assert (found["problems"], found["final"]) == (["a: no"], final)


def test_the_report_of_a_failure_goes_with_it_and_no_other_does(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("fine")
    Failure.at(tmp_path).clear()
    assert report.exists()
    Failure.at(tmp_path).write(RoundError("too few"))
    Failure.at(tmp_path).clear()
    assert not report.exists()
    assert Failure.at(tmp_path).read() is None
