"""The commands of fl-sim about strategies: compare several, and begin one of one's own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fl_core.errors import StonecropError
from fl_core.process.command import errors_as_lines
from fl_core.process.options import finite

if TYPE_CHECKING:
    from simulation.compare.run import Cell

errors = Console(stderr=True, emoji=False)
app = typer.Typer()
new = typer.Typer(name="new", help="Begin something of your own from a working example.", no_args_is_help=True)
app.add_typer(new)


def _one_config(words: list[str] | None) -> list[str] | None:
    """What follows the config of a comparison; looked at first, before anything is missed.

    Raises:
        typer.BadParameter: it is no override: another config, say.
    """
    for word in words or ():
        if "=" not in word:
            raise typer.BadParameter(
                f"compare takes one config and compares strategies of it; expected key=value after it, got {word!r}"
            )
    return words


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value ...]", help="Fields that replace the file's.", show_default=False),
]
OverridesOfOne = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=value ...]",
        help="Fields that replace the file's.",
        show_default=False,
        callback=_one_config,
        is_eager=True,
    ),
]
Strategies = Annotated[
    str, typer.Option(help="Comma-separated: names, name(arg=value) or package.module:Class.", show_default=False)
]
Partition = Annotated[
    str | None, typer.Option(help="iid, natural, dirichlet:ALPHA or shards:COUNT.", show_default="the config's")
]
Liars = Annotated[
    str | None, typer.Option(help="What lying clients do: name or name:CLIENTS.", show_default="the config's")
]
Target = Annotated[
    float | None,
    typer.Option(callback=finite, help="Accuracy to reach.", show_default="95 % of the best at the end"),
]
Folder = Annotated[Path | None, typer.Option(help="Folder of the comparison.", show_default="runs/compare-NAME")]


@app.command(
    epilog="Example:\n\nfl-sim compare configs/mnist_dirichlet.yaml --strategies 'fedavg,fedprox(mu=0.1),scaffold' "
    "--seeds 3 --partition dirichlet:0.1\n\n"
    "fl-sim compare configs/mnist.yaml --strategies fedavg,median,krum --attack sign_flip:2"
)
def compare(
    config: ConfigFile,
    overrides: OverridesOfOne = None,
    *,
    strategies: Strategies,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each, from the config's seed upwards.")] = 1,
    partition: Partition = None,
    attack: Liars = None,
    target: Target = None,
    out: Folder = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = min(4, os.cpu_count() or 1),
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON on stdout.")] = False,
) -> None:
    """Run several strategies on the same config and print, plot and write how they did; called again, it goes on.

    A run that fails is named with its reason and left out of the table; the others go on, and the exit code is its own.
    """
    with errors_as_lines("interrupted; the same command goes on where it stopped"):
        from fl_core.config import load_config
        from fl_core.run_folder import run_lock
        from simulation.compare.figures import curves, heading, read_runs, tabulate
        from simulation.compare.folder import refuse_other_folder
        from simulation.compare.output import draw_curves, terminal_table, write_tables
        from simulation.compare.run import plan, refuse_failed

        loaded = load_config(config, overrides or ())
        folder = out or Path(loaded.run.out) / f"compare-{loaded.run.name}"
        refuse_other_folder(folder)
        cells = plan(loaded, strategies, seeds, folder, _sections(partition, attack))
        with run_lock(folder):
            failed = _finish(cells, workers)
            runs = read_runs([cell for cell in cells if cell.folder.name not in failed])
            if not runs:
                refuse_failed(failed)
            (rows, reached), head = tabulate(runs, target), heading(runs)
            errors.print(terminal_table(rows, reached, head))
            table = write_tables(rows, reached, head, folder)
            draw_curves(curves(runs), reached, head, folder / "compare.png")
        _say(f"table and picture: {folder}")
        if as_json:
            typer.echo(json.dumps(json.loads(table.read_text(encoding="utf-8"))))
        refuse_failed(failed)


@new.command("strategy", epilog="Example:\n\nfl-sim new strategy calm_average")
def new_strategy(
    name: Annotated[str, typer.Argument(help="Module name in snake_case.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
) -> None:
    """Write a strategy that works, in at most 40 lines, and its test."""
    with errors_as_lines():
        from simulation.new_strategy import write_strategy

        for path in write_strategy(name, out):
            typer.echo(path)


def _finish(cells: Sequence[Cell], workers: int) -> dict[str, StonecropError]:
    """Finish all runs of a comparison and say each as it ends; gives the errors of those that failed, by name."""
    from simulation.compare.run import run_cells

    failed: dict[str, StonecropError] = {}
    with closing(run_cells(cells, workers)) as ended:
        for number, (cell, error) in enumerate(ended, start=1):
            failed |= {cell.folder.name: error} if error else {}
            outcome = f" failed: {error}" if error else ""
            _say(f"{number}/{len(cells)} {cell.folder.name}{outcome}")
    return failed


def _say(line: str) -> None:
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def _sections(partition: str | None, attack: str | None) -> dict[str, dict[str, Any]]:
    """The fields of the config that the options replace, by section."""
    from simulation.compare.run import read_attack, read_partition

    sections: dict[str, dict[str, Any]] = {}
    if partition is not None:
        sections["data"] = {"partition": read_partition(partition)}
    if attack is not None:
        sections["simulation"] = {"attack": read_attack(attack)}
    return sections
