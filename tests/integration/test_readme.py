"""What README and its pages of docs say is so: their own lines run, their commands, configs, keys and exit codes exist,
and their links lead on.

The fenced blocks of one's own data, model, strategy and task name their file in the first line. They are written to an
empty folder as they stand and run from there, as a reader would.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import runpy
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fl_core import errors
from fl_core.config import Config, load_config
from fl_core.data.datasets import DATASETS
from fl_core.tasks import TASKS
from simulation.cli import app
from strategies.registry import STRATEGIES

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in (
    "commands", "config", "bring-your-own", "privacy", "quantization", "figures", "reliability", "run-folder",
)))  # fmt: skip
"""README first, for a block of a later page may stand for one of its own of the same name."""
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
WHOLE = "\n".join(TEXTS.values())
FIGURES = re.compile(r"(<!-- figures:begin (\w+) -->\n<!-- made by: .+ -->\n).*?(<!-- figures:end \2 -->)", re.DOTALL)
README = FIGURES.sub(r"\1\3", WHOLE)
"""All pages, without the figures, which a command printed."""
MOST_LINES = 24  # of code for one thing of one's own, with its line in the config
OWN = ("my_data.py", "my_model.py", "my_strategy.py", "my_task.py")
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str = README) -> dict[str, str]:
    """Fenced blocks by the file name in their first line."""
    found = {}
    for block in BLOCK.finditer(text):
        name = re.match(r"# (\S+\.(?:py|yaml))\n", block["text"])
        if name:
            found[name[1]] = block["text"]
    return found


def shell_lines() -> list[str]:
    """Commands of all blocks, without their comments."""
    plain = [block["text"] for block in BLOCK.finditer(README) if not block["kind"]]
    lines = [line.split("  #")[0].strip() for text in plain for line in text.splitlines()]
    return [line for line in lines if line.split(" ")[0] in ("make", "fl-sim", "python")]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with README's files and nothing else; nothing of it stays imported."""
    for name, text in blocks().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    for name in OWN:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_ones_own_data_model_strategy_and_task_are_short() -> None:
    found = blocks()
    config = found["my_run.yaml"].splitlines()
    for name in OWN:
        module = name.removesuffix(".py")
        lines = [*found[name].splitlines(), *(line for line in config if f'"{module}:' in line)]
        assert len(lines) > len(found[name].splitlines()), f"{name} has no line in my_run.yaml"
        assert len(lines) <= MOST_LINES, name


def test_readmes_own_files_run_from_the_working_directory_to_an_int8_artefact(
    own_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(app, ["run", "my_run.yaml", "run.rounds=3", "--json"])
    assert result.exit_code == 0, result.stderr
    summary = json.loads(Path(result.stdout.splitlines()[-1]).read_text())
    assert (summary["rounds_done"], summary["clients"]) == (3, 4)
    assert (summary["model"], summary["strategy"]) == ("my_model:small_net", "my_strategy:Calming")
    assert summary["accuracy_int8"] > summary["initial_accuracy"]
    assert summary["privacy"]["epsilon_max"] <= 8.0
    assert summary["parity"]["max_lsb"] <= 1
    assert sys.modules["my_task"].Smoothed.metric_name == "accuracy"
    assert summary["artifacts"][0]["path"] == "rounds/0003/onnx/model.onnx"
    monkeypatch.setattr(sys, "argv", ["use_artifact.py", str(own_folder / "runs" / "rooms")])
    capsys.readouterr()
    runpy.run_path(str(own_folder / "use_artifact.py"), run_name="__main__")
    assert len(re.findall(r"-?\d+\.?\d*", capsys.readouterr().out)) == 2  # one number a class


def test_a_stranger_reads_readme_in_five_minutes() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 160


def test_readmes_own_data_and_model_run_without_the_other_pages(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = blocks(TEXTS["README.md"])
    assert set(own) == {"my_data.py", "my_model.py", "my_run.yaml"}
    (own_folder / "my_run.yaml").write_text(own["my_run.yaml"], encoding="utf-8")
    for name in ("my_strategy.py", "my_task.py"):
        (own_folder / name).unlink()
    result = CliRunner().invoke(app, ["run", "my_run.yaml", "run.rounds=1", "--json"])
    assert result.exit_code == 0, result.stderr
    assert (own_folder / "runs" / "rooms" / "rounds" / "0001" / "onnx" / "model.onnx").is_file()


def test_every_make_target_of_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", README)) | {
        line.split()[1] for line in shell_lines() if line.startswith("make ")
    }
    assert {"quickstart", "test"} <= named <= targets


def test_every_command_of_readme_exists_with_its_options() -> None:
    commands: dict[str, Any] = dict(typer.main.get_group(app).commands)
    named = [line for line in shell_lines() if line.startswith("fl-sim ")]
    named += re.findall(r"(?:`|made by: )(fl-sim [a-z]+ [^`\n]*?)(?:`| -->)", README)
    assert {line.split()[1] for line in named} == set(commands)
    for line in named:
        known = {option for param in commands[line.split()[1]].params for option in param.opts}
        assert {word for word in line.split() if word.startswith("--")} <= known, line


def test_every_config_of_readme_exists_and_readme_names_every_config() -> None:
    named = set(re.findall(r"configs/[\w.-]+\.yaml", README))
    assert named == {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}


def test_every_overridden_command_of_readme_is_a_right_config() -> None:
    for line in shell_lines():
        words = line.split()
        if words[0] == "fl-sim" and words[2].startswith("configs/"):
            load_config(ROOT / words[2], [word for word in words[3:] if "=" in word])


def test_exit_codes_are_those_of_the_error_tree_in_the_words_of_the_command() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    kinds = [errors.StonecropError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {int(code) for code, _ in rows} == {0, 130} | {kind.exit_code for kind in kinds}
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    helped = {line.strip() for line in text.splitlines()}
    assert {f"{code} {meaning}" for code, meaning in rows} <= helped


def keys_of(section: type, prefix: str = "") -> set[str]:
    """Dotted names of all fields; a section's own name is none."""
    found: set[str] = set()
    for name, hint in typing.get_type_hints(section).items():
        options = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
        inner = next((option for option in options if dataclasses.is_dataclass(option)), None)
        found |= {f"{prefix}{name}"} if inner is None else keys_of(typing.cast(type, inner), f"{prefix}{name}.")
    return found


def test_the_table_of_keys_is_the_schema() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| ((?:`[a-z_]+`(?:, | or )?)+) \|", README, re.MULTILINE)
    named = {f"{section}.{key}" for section, keys in rows for key in re.findall(r"`([a-z_]+)`", keys)}
    assert named == keys_of(Config)


def test_the_names_in_the_table_of_keys_are_those_of_the_registries() -> None:
    family = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert sorted(name for name in STRATEGIES if f"`{name}`" not in family) == []
    for section, names in (("data", DATASETS), ("task", TASKS)):
        (row,) = re.findall(rf"^\| `{section}` \| .*$", README, re.MULTILINE)
        assert set(names) <= set(re.findall(r"[a-z]+", row)), section


def test_every_file_that_readme_names_exists_and_places_for_figures_are_closed() -> None:
    paths = [
        os.path.normpath(Path(page).parent / link)
        for page, text in TEXTS.items()
        for link in re.findall(r"\]\(([\w./-]+)\)", text)
    ]
    paths += re.findall(r"\b((?:fl_core|fl_server|fl_client|strategies|benchmarks|docs)/[\w/-]+(?:\.\w+)?)", README)
    assert sorted(path for path in set(paths) if not (ROOT / path).exists()) == []
    begun = re.findall(r"<!-- figures:begin (\w+) -->", WHOLE)
    assert begun == re.findall(r"<!-- figures:end (\w+) -->", WHOLE) == [name for _, name, _ in FIGURES.findall(WHOLE)]
    assert len(begun) == len(set(begun)) > 0
