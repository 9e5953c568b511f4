"""What no further start mends ends a supervisor with its code, and a table that was copied ends no process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fl_core.errors import DataError, ServerAwayError
from fl_core.process.processes import processes_of
from fl_core.process.supervise import EndedForGoodError, ExitReason, Supervisor
from fl_core.process.table import TABLE, end_of, health_by_process, leaders_of, running_processes, troubles
from support.supervised import ENVIRONMENT, PARENT, SLEEP, part, pid_of, supervised, until


@pytest.mark.parametrize("code", [2, DataError.exit_code, 10])
def test_a_part_of_ours_that_no_further_start_mends_ends_the_supervisor_with_its_code_and_its_words(tmp_path, code):
    broken = part(f"print('what is wrong'); raise SystemExit({code})", own_codes=True)
    with supervised(tmp_path, broken, part(SLEEP, "other")) as supervisor:
        with pytest.raises(EndedForGoodError, match=f"^part: ended with {code}: what is wrong$") as ended:
            until(lambda: False, supervisor.step)
        assert ended.value.exit_code == code
    found = end_of(tmp_path / "run")
    assert found is not None
    assert (found["reason"], found["exit_code"]) == (str(ended.value), code)
    following = Supervisor(tmp_path, tmp_path / "run", [broken], ENVIRONMENT)
    following.end_leftovers()
    assert end_of(tmp_path / "run") is None


@pytest.mark.parametrize(("code", "own_codes"), [(ServerAwayError.exit_code, True), (1, True), (3, False)])
def test_what_may_pass_and_codes_that_are_not_ours_are_tried_again(tmp_path, code, own_codes):
    with supervised(tmp_path, part(f"raise SystemExit({code})", own_codes=own_codes)) as supervisor:
        until(lambda: int(str(supervisor.describe()["part"]["restarts"])) >= 3, supervisor.step)
        assert troubles(tmp_path / "run") == {"part": f"ended with {code}"}
    assert end_of(tmp_path / "run") is None


def test_a_reason_that_a_log_gives_may_be_for_good_too(tmp_path):
    twice = part("print('two of us')", explain=lambda tail: ExitReason(tail.strip(), exit_code=10))
    with (
        supervised(tmp_path, twice) as supervisor,
        pytest.raises(EndedForGoodError, match=r"^part: two of us$") as ended,
    ):
        until(lambda: False, supervisor.step)
    assert ended.value.exit_code == 10


def test_a_folder_that_was_copied_with_its_table_names_no_process_and_ends_none_of_the_originals(tmp_path):
    original, copied = tmp_path / "original", tmp_path / "copied"
    with supervised(original, part(PARENT)) as supervisor:
        until(lambda: len(processes_of(original)) == 2 and supervisor.ready, supervisor.step)
        before = {found.pid for found in processes_of(original)}
        shutil.copytree(original, copied)
        assert leaders_of(copied / "run") == running_processes(copied / "run") == {}
        assert health_by_process(copied / "run") == troubles(copied / "run") == {}
        with supervised(copied, part(PARENT)) as second:
            assert second.end_leftovers() == 0
            until(lambda: len(processes_of(copied)) == 2, second.step)
        assert {found.pid for found in processes_of(original)} == before
        assert leaders_of(original / "run") == {pid_of(supervisor): "part"}


@pytest.mark.parametrize("field", ["boot_id", "folder", "inode", "device"])
def test_a_table_of_another_machine_boot_or_folder_says_nothing(tmp_path, field):
    with supervised(tmp_path, part(SLEEP)) as supervisor:
        until(lambda: len(leaders_of(tmp_path / "run")) == 1, supervisor.step)
        path = tmp_path / "run" / TABLE
        table = json.loads(path.read_text())
        path.write_text(json.dumps({**table, "place": {**table["place"], field: "another"}}))
        assert leaders_of(tmp_path / "run") == {}


def test_what_an_earlier_supervisor_left_behind_may_end_its_work(tmp_path):
    done, code = tmp_path / "done", "import signal, sys, time; from pathlib import Path\n"
    code += "def end(*_):\n    time.sleep(0.5); Path(sys.argv[1]).touch(); sys.exit()\n"
    code += "signal.signal(signal.SIGTERM, end); Path(sys.argv[1] + '.up').touch(); time.sleep(60)"
    with supervised(tmp_path, part(code, "part", str(done))) as supervisor:
        supervisor.step()
        until(lambda: Path(f"{done}.up").exists())
        following = Supervisor(tmp_path, tmp_path / "run", [part(code)], ENVIRONMENT)
        assert following.end_leftovers() == 1
        assert done.exists()
