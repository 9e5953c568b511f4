"""fl-sim: the command of everybody who simulates a federation. Run, resume, report, try, validate.

Everything for people goes to standard error; standard output carries only what a script reads. Errors that a user can
cause are one line each, without a traceback, with the exit code of their branch of the error tree.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fl_core.errors import RunFolderError
from fl_core.process.command import EXIT_CODES_HELP, errors_as_lines
from simulation import cli_strategies
from simulation.cli_strategies import ConfigFile, Overrides

app = typer.Typer(
    name="fl-sim",
    help="Simulate a federation on this machine: real clients' data, quantization-aware training, differential "
    "privacy, and a verified int8 artefact after each round.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_strategies.app)
errors = Console(stderr=True, emoji=False)


def _no_file(run_dir: Path) -> Path:
    """The callback of a run folder: a config, say, is none."""
    with errors_as_lines():
        if run_dir.is_file():
            raise RunFolderError(f"{run_dir}: expected a run folder, got a file")
    return run_dir


RunDir = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Run folder, such as runs/quickstart.", show_default=False, callback=_no_file),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that train clients; the result does not depend on it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the path of summary.json as the last line of stdout.")]


@app.command(epilog="Example:\n\nfl-sim run configs/quickstart.yaml run.seed=7 privacy.epsilon=3 run.name=mine")
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder in which the run folder is made.", show_default="run.out")
    ] = None,
    workers: Workers = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run of this name first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a config from its start and write the run folder with its report."""
    with errors_as_lines():
        from fl_server.plan.validate import load_checked

        loaded = load_checked(config, overrides or ())
        parent = out or Path(loaded.run.out)
        run_dir = parent / loaded.run.name
    with _ends_resumable(run_dir):
        from fl_server.watch.live import LiveProgress
        from simulation.run import run as start

        with LiveProgress(errors) as progress:
            run_dir = start(loaded, out=parent, workers=workers, listeners=[progress], overwrite=overwrite)
        _close(run_dir, as_json)


@app.command(epilog="Example:\n\nfl-sim resume runs/quickstart")
def resume(run_dir: RunDir, workers: Workers = 1, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted, from its last checkpoint: the result is the same to the bit."""
    with _ends_resumable(run_dir):
        from fl_core.runlog import read_events
        from fl_server.watch.folder import companion_folders
        from fl_server.watch.live import LiveProgress
        from simulation.run import resume as go_on

        with LiveProgress(errors) as progress:
            for folder in (run_dir, *companion_folders(run_dir, "events.jsonl")):
                if (folder / "events.jsonl").is_file():
                    progress.replay(read_events(folder))
            go_on(run_dir, workers=workers, listeners=[progress])
        _close(run_dir, as_json)


@app.command(epilog="Example:\n\nfl-sim report runs/quickstart")
def report(run_dir: RunDir) -> None:
    """Write report.html again from a run folder, of a running run too, and print its path."""
    with errors_as_lines():
        from fl_server.report.build import build_report
        from fl_server.rounds.same_run import check_log

        check_log(run_dir)
        typer.echo(build_report(run_dir))


@app.command("try", epilog="Example:\n\nfl-sim try runs/quickstart --count 8 --out answers.png")
def try_(
    run_dir: RunDir,
    count: Annotated[int, typer.Option(min=1, max=100, help="Held-out examples to ask about.")] = 12,
    out: Annotated[Path | None, typer.Option(help="The picture.", show_default="DIR/try.png")] = None,
) -> None:
    """Let the newest int8 artefact answer for held-out examples, drawn with its answers and the truth."""
    with errors_as_lines():
        from simulation.draw import draw_answers
        from simulation.try_artifact import answer_table, try_artifact

        picture = out or run_dir / "try.png"
        trial = try_artifact(run_dir, count)
        errors.print(answer_table(trial))
        draw_answers(trial, picture)
        typer.echo(picture)


@app.command(epilog="Example:\n\nfl-sim validate configs/mnist.yaml quant.weight_bits=4")
def validate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Say everything that is wrong with a config, or what it would run; nothing is started."""
    with errors_as_lines():
        from simulation.preflight import validate as validated
        from simulation.tables import outline_table

        outline = validated(config, overrides or ())
        errors.print(outline_table(outline))
        for finding in outline.findings:
            errors.print(str(finding), markup=False, highlight=False, soft_wrap=True)


def _ends_resumable(run_dir: Path) -> AbstractContextManager[None]:
    """Errors and Ctrl-C as lines that say how to go on with the run, once there is one."""

    def go_on() -> str | None:
        return f"fl-sim resume {run_dir}" if (run_dir / "config.yaml").is_file() else None

    def when_interrupted() -> str:
        return f"interrupted; go on with: {command}" if (command := go_on()) else "interrupted"

    return errors_as_lines(when_interrupted, go_on)


def _close(run_dir: Path, as_json: bool) -> None:
    """The closing table, and where everything is."""
    from fl_server.report.tables import print_closing

    path = run_dir / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    print_closing(errors, [summary, *summary["beside"]])
    errors.print(f"report: {run_dir / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    if summary["artifacts"]:
        errors.print(f"try it: fl-sim try {run_dir}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(path)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
