"""A run that fails leaves its reason and a report that tells it, and nothing in another run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.errors import RoundError
from fl_server.report.build import build_report
from fl_server.report.failed import failure_kept
from fl_server.watch.failure import Failure
from support.synthetic_run import write_run

REASON = "run: expected at least 2 clients within 5 s, got 1"


def fail_in(run_dir: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    def work() -> None:
        with failure_kept(run_dir):
            meanwhile()
            raise RoundError(REASON)

    with pytest.raises(RoundError, match="expected at least 2 clients"):
        work()


@pytest.mark.parametrize("rounds", [None, 0, 2])
def test_a_run_that_fails_has_its_reason_on_top_of_its_report_and_again_when_that_is_made_anew(
    tmp_path: Path, rounds: int | None
) -> None:
    if rounds is not None:
        write_run(tmp_path, rounds=rounds, finished=False)
    fail_in(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.index("Why this run stopped") < page.index(REASON) < page.index('class="tiles"')
    assert build_report(tmp_path).read_text() == page


def test_a_run_that_goes_on_well_has_forgotten_why_it_stopped(tmp_path: Path) -> None:
    write_run(tmp_path, finished=False)
    fail_in(tmp_path)
    with failure_kept(tmp_path):
        assert Failure.at(tmp_path).read() is None
    assert REASON not in build_report(tmp_path).read_text()


def test_a_run_whose_folder_is_anothers_by_now_leaves_nothing_in_it(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", finished=False)

    def begin_anew() -> None:
        shutil.move(run_dir, tmp_path / "aside")
        write_run(run_dir, finished=False)

    fail_in(run_dir, begin_anew)
    assert Failure.at(run_dir).read() is None
    assert not (run_dir / "report.html").exists()
