"""fl-sim as its user sees it: help with examples, every problem at once, exit codes, what stands on standard output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import simulation.preflight
import simulation.run
from fl_core import errors
from fl_core.config import Config
from fl_server.report.build import build_report
from fl_server.report.summary import write_summary
from simulation.cli import app
from simulation.compare.folder import JSON_TABLE, name_of_run, refuse_other_folder
from support.synthetic_run import write_run

COMMANDS = sorted(typer.main.get_group(app).commands)


def fl_sim(*args: str | Path) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(
        f"run: {{name: demo, out: {tmp_path / 'runs'}}}\nmodel: {{name: image_cnn}}\n"
        "data: {name: mnist, partition: {kind: iid, clients: 2}}\n"
    )
    return path


@pytest.fixture
def made_up_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """``simulation.run.run`` writes a made-up run folder at once."""

    def run(config: Config, out: Path, workers: int, listeners: list[Callable[..., None]], overwrite: bool) -> Path:
        folder = write_run(out / config.run.name, name=config.run.name)
        write_summary(folder, seconds=2.5, peak_rss_mb=1.0)
        build_report(folder)
        return folder

    monkeypatch.setattr(simulation.run, "run", run)


def error_kinds(kind: type[errors.StonecropError] = errors.StonecropError) -> list[type[errors.StonecropError]]:
    """The error tree; what one module derives for itself is not part of it."""
    below = (direct for direct in kind.__subclasses__() if direct.__module__ == errors.__name__)
    return [kind, *(inner for direct in below for inner in error_kinds(direct))]


def test_there_are_the_seven_commands() -> None:
    assert COMMANDS == ["compare", "new", "report", "resume", "run", "try", "validate"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_shows_an_example(command: str) -> None:
    result = fl_sim(command, "--help")
    assert result.exit_code == 0
    assert f"fl-sim {command} " in result.stdout


def test_help_documents_every_exit_code_of_the_error_tree() -> None:
    lines = [line.strip() for line in fl_sim("--help").stdout.splitlines()]
    documented = {int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdigit()}
    assert documented == {0, 130} | {kind.exit_code for kind in error_kinds()}


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_wrong_config_lists_all_its_problems_and_starts_nothing(command: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        f"run: {{name: demo, out: {tmp_path / 'runs'}, rounds: 0}}\ndata: {{name: mnist}}\nmodel: {{name: image_cnn}}\n"
        "quant: {weight_bit: 4}\nclients: {batch_size: many}\nstrategy: {name: fedav}\nexport: {formats: [tflite]}\n"
    )
    result = fl_sim(command, path, "privacy.epsilon=-1")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    for field in ("run.rounds", "quant.weight_bit: unknown key; did you mean quant.weight_bits?", "clients.batch_size",
                  "privacy.epsilon", "strategy.name: ", "export.formats: "):  # fmt: skip
        assert sum(field in line for line in lines) == 1
    assert not (tmp_path / "runs").exists()


def test_names_that_nothing_has_are_listed_at_once_and_leave_no_folder(config_file: Path) -> None:
    wrong = ("data.name=mnits", "model.name=image_cn", "strategy.name=fedav", "export.formats=[tflite]")
    for command in ("validate", "run"):
        result = fl_sim(command, config_file, *wrong)
        assert result.exit_code == 2
        for field in ("data.name: ", "model.name: ", "strategy.name: ", "export.formats: "):
            assert sum(line.startswith(f"error: {field}") for line in result.stderr.splitlines()) == 1
    assert not (config_file.parent / "runs").exists()


def test_what_only_the_data_can_tell_is_found_before_anything_starts(config_file: Path) -> None:
    for command in ("validate", "run"):
        result = fl_sim(command, config_file, "quant.ranges=public")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "needs public examples" in result.stderr
    assert not (config_file.parent / "runs").exists()


def test_a_wrong_config_overwrites_nothing(config_file: Path) -> None:
    old = write_run(config_file.parent / "runs" / "demo")
    assert fl_sim("run", config_file, "data.name=mnits", "--overwrite").exit_code == 2
    assert (old / "events.jsonl").is_file()


def test_a_missing_config_is_one_line(tmp_path: Path) -> None:
    result = fl_sim("run", tmp_path / "nothing.yaml")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "does not exist" in result.stderr


@pytest.mark.parametrize("kind", error_kinds(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_is_a_line_with_its_exit_code(
    kind: type[errors.StonecropError], config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise kind("client 17: expected [b, w], got [w]")

    monkeypatch.setattr(simulation.preflight, "preflight", fail)
    result = fl_sim("validate", config_file)
    assert result.exit_code == kind.exit_code
    assert result.stderr == "error: client 17: expected [b, w], got [w]\n"


def test_json_ends_standard_output_with_the_path_of_the_summary(config_file: Path, made_up_run: None) -> None:
    result = fl_sim("run", config_file, "--json")
    assert result.exit_code == 0
    path = Path(result.stdout.splitlines()[-1])
    assert (path.name, path.is_file()) == ("summary.json", True)


def test_without_json_standard_output_stays_empty_and_the_table_is_on_stderr(
    config_file: Path, made_up_run: None
) -> None:
    result = fl_sim("run", config_file)
    assert result.stdout == ""
    assert "int8 in its runtime" in result.stderr
    assert "report.html" in result.stderr


def test_a_folder_that_holds_a_run_is_refused_with_what_to_do_and_left_as_it_is(config_file: Path) -> None:
    folder = write_run(config_file.parent / "runs" / "demo")
    before = (folder / "events.jsonl").read_bytes()
    result = fl_sim("run", config_file)
    assert result.exit_code == errors.RunFolderError.exit_code
    for way_out in ("fl-sim resume", "run.name=", "--out", "--overwrite"):
        assert way_out in result.stderr
    assert (folder / "events.jsonl").read_bytes() == before


def test_another_out_or_name_makes_room(config_file: Path, made_up_run: None) -> None:
    write_run(config_file.parent / "runs" / "demo")
    other = config_file.parent / "elsewhere"
    assert fl_sim("run", config_file, "--out", other).exit_code == 0
    assert (other / "demo" / "summary.json").is_file()
    assert fl_sim("run", config_file, "run.name=second").exit_code == 0
    assert (config_file.parent / "runs" / "second" / "summary.json").is_file()


def test_overwrite_never_deletes_what_is_no_run(config_file: Path) -> None:
    precious = config_file.parent / "runs" / "demo" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("x")
    result = fl_sim("run", config_file, "--overwrite")
    assert result.exit_code == errors.RunFolderError.exit_code
    assert precious.is_file()


def test_ctrl_c_says_how_to_go_on(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(config: Config, out: Path, workers: int, listeners: list[Any], overwrite: bool) -> Path:
        write_run(out / config.run.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation.run, "run", interrupted)
    result = fl_sim("run", config_file)
    assert result.exit_code == 130
    assert f"fl-sim resume {config_file.parent / 'runs' / 'demo'}" in result.stderr
    assert "Traceback" not in result.stderr


def test_report_prints_where_it_is(tmp_path: Path) -> None:
    result = fl_sim("report", write_run(tmp_path / "demo"))
    assert result.exit_code == 0
    assert Path(result.stdout.strip()).is_file()


@pytest.mark.parametrize("command", ["resume", "report", "try"])
def test_a_folder_that_is_no_run_is_refused(command: str, tmp_path: Path) -> None:
    result = fl_sim(command, tmp_path)
    assert result.exit_code == errors.RunFolderError.exit_code
    assert result.stderr.startswith(f"error: {tmp_path}")


@pytest.mark.parametrize("command", ["resume", "report", "try"])
def test_a_file_is_no_run_folder(command: str, config_file: Path) -> None:
    result = fl_sim(command, config_file)
    assert result.exit_code == errors.RunFolderError.exit_code
    assert result.stderr == f"error: {config_file}: expected a run folder, got a file\n"


@pytest.mark.parametrize("options", [(), ("--strategies", "fedavg")])
def test_a_comparison_of_two_configs_is_told_what_a_comparison_is_of(
    options: tuple[str, ...], config_file: Path
) -> None:
    result = fl_sim("compare", config_file, "other.yaml", *options)
    assert result.exit_code == 2
    assert "takes one config and compares strategies of it" in result.stderr
    assert "other.yaml" in result.stderr


@pytest.mark.parametrize("holds", ["config.yaml", "thesis.tex", "another-run/config.yaml"])
def test_a_comparison_is_written_to_no_folder_of_something_else(holds: str, config_file: Path) -> None:
    out = config_file.parent / "runs"
    (out / holds).parent.mkdir(parents=True)
    (out / holds).write_text("precious")
    before = sorted(config_file.parent.rglob("*"))
    result = fl_sim("compare", config_file, "--strategies", "fedavg", "--out", out)
    assert result.exit_code == errors.RunFolderError.exit_code
    assert "expected a comparison or nothing, got" in result.stderr
    assert sorted(config_file.parent.rglob("*")) == before


def test_a_comparison_that_was_begun_or_has_notes_beside_its_table_is_gone_on_with(tmp_path: Path) -> None:
    refuse_other_folder(tmp_path / "nothing")
    (tmp_path / name_of_run("own:Code(rate=0.5)", 3)).mkdir()
    (tmp_path / ".fedavg-seed3.lock").touch()
    refuse_other_folder(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(errors.RunFolderError, match=r"notes\.txt"):
        refuse_other_folder(tmp_path)
    (tmp_path / JSON_TABLE).touch()
    refuse_other_folder(tmp_path)


def test_the_arguments_are_explained() -> None:
    assert "YAML file of the run" in fl_sim("run", "--help").stdout
