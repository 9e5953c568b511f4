"""fl-server: the command of whoever runs a federation. Make a server, keep it up, run configs on its devices.

Everything for people goes to standard error; standard output carries only what a script reads.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fl_core.process.command import EXIT_CODES_HELP, LogFormatOption, errors_as_lines
from fl_core.process.loopback import keep_loopback_direct
from fl_core.process.structured_log import LogFormat, start_logging
from fl_server.gateway.commands import ServerDir, devices_app, token_app

if TYPE_CHECKING:
    from fl_server.deploy.home import ServerHome

app = typer.Typer(
    name="fl-server",
    help="Run a federation of devices: a server that stays up, a gateway that lets enrolled devices in, and runs that "
    "go on where they were interrupted.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
errors = Console(stderr=True, emoji=False)
logger = logging.getLogger(__name__)

app.add_typer(devices_app, name="devices")
app.add_typer(token_app, name="token")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


@app.command(epilog="Example:\n\nfl-server init /srv/federation --host fl.example.org")
def init(
    folder: ServerDir,
    host: Annotated[str, typer.Option(help="Name or address by which devices reach this machine.")] = "localhost",
    gateway_port: Annotated[int, typer.Option(min=1, max=65535, help="Port that devices reach.")] = 8443,
    loopback_ports: Annotated[
        tuple[int, int, int],
        typer.Option(help="Ports that only this machine reaches: SuperLink, enrolment service, health and metrics."),
    ] = (8100, 8101, 8102),
    listen: Annotated[
        str | None,
        typer.Option(
            help="Address of this machine on which the gateway listens; :: is every one of IPv6 and IPv4.",
            show_default="0.0.0.0, every one of IPv4; :: where HOST is an IPv6 address",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a server's folder: certificate authority, server certificate, gateway and a config to edit."""
    with errors_as_lines():
        from fl_core.errors import ConfigError
        from fl_core.hostnames import bracketed
        from fl_server.deploy.home import Settings
        from fl_server.deploy.operations import make_home

        try:
            everywhere = "::" if ":" in host else "0.0.0.0"
            settings = Settings(host, gateway_port, *loopback_ports, everywhere if listen is None else listen)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        home = make_home(folder, settings)
        _say(f"devices reach it as https://{bracketed(settings.host)}:{settings.gateway_port}")
        _say(f"made {home.folder}; edit {home.folder / 'fleet.yaml'}, then: fl-server up {folder}")
        if as_json:
            typer.echo(json.dumps({"folder": str(home.folder), "config": str(home.folder / "fleet.yaml")}))


@app.command(epilog="Example:\n\nfl-server up /srv/federation")
def up(folder: ServerDir, as_json: AsJson = False, log_format: LogFormatOption = LogFormat.TEXT) -> None:
    """Start SuperLink, gateway and health endpoint, keep them up, and go on with a run that was under way."""
    start_logging(log_format)
    keep_loopback_direct()
    with errors_as_lines():
        from fl_server.deploy.home import ServerHome
        from fl_server.deploy.keep_up import keep_up

        stop = threading.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: stop.set())

        def say(line: str) -> None:
            if log_format is LogFormat.JSON:
                logger.info("%s", line)
            else:
                _say(line)
            if as_json:
                typer.echo(json.dumps({"says": line}))

        keep_up(ServerHome.open(folder), stop, say)
        say("down")


@app.command(epilog="Example:\n\nfl-server run /srv/federation/fleet.yaml run.rounds=20")
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value ...]", help="Fields that replace the file's.", show_default=False),
    ] = None,
    server: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the server.", show_default="the folder of CONFIG")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run of this name first.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a config on the server's devices and show its progress. Ctrl-C leaves the run going."""
    with errors_as_lines("the run goes on; stop it with: fl-server stop DIR"):
        from fl_server.deploy.home import ServerHome
        from fl_server.deploy.operations import want_run
        from fl_server.plan.validate import load_checked

        home = ServerHome.open(server or config.parent)
        _show_until_done(home, want_run(home, load_checked(config, overrides or ()), overwrite), detach, as_json)


@app.command(epilog="Example:\n\nfl-server resume /srv/federation")
def resume(
    folder: ServerDir,
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Name of the run.", show_default="the newest")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was stopped or failed, from the last round that was finished."""
    with errors_as_lines("the run goes on; stop it with: fl-server stop DIR"):
        from fl_server.deploy.home import ServerHome
        from fl_server.deploy.operations import want_again

        home = ServerHome.open(folder)
        _show_until_done(home, want_again(home, name), detach, as_json)


@app.command(epilog="Example:\n\nfl-server status /srv/federation")
def status(folder: ServerDir, as_json: AsJson = False) -> None:
    """Show processes and devices, and of the newest run its rounds, clients, epsilon, and who was left out and why."""
    with errors_as_lines():
        from fl_server.deploy.home import ServerHome
        from fl_server.deploy.status import describe_server, status_tables

        described = describe_server(ServerHome.open(folder))
        if as_json:
            typer.echo(json.dumps(described))
        else:
            for table in status_tables(described):
                errors.print(table)


@app.command(epilog="Example:\n\nfl-server stop /srv/federation")
def stop(folder: ServerDir, as_json: AsJson = False) -> None:
    """Stop the run that is under way; `fl-server resume` goes on with it. The server stays up."""
    with errors_as_lines():
        from fl_server.deploy.home import ServerHome
        from fl_server.deploy.operations import stop_run

        name = stop_run(ServerHome.open(folder))
        _say("no run was under way" if name is None else f"stopped; go on with: fl-server resume {folder}")
        if as_json:
            typer.echo(json.dumps({"stopped": name}))


def _show_until_done(home: ServerHome, run_dir: Path, detach: bool, as_json: bool) -> None:
    """Show a run until it is done, and its closing table."""
    from fl_server.deploy.operations import wait_for_run
    from fl_server.report.tables import print_closing
    from fl_server.watch.live import LiveProgress

    if not detach:
        with LiveProgress(errors) as progress:
            wait_for_run(home, run_dir, progress, _say)
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
        print_closing(errors, [summary])
        _say(f"report: {run_dir / 'report.html'}")
    if as_json:
        path = run_dir if detach else run_dir / "summary.json"
        typer.echo(json.dumps({"run": run_dir.name, "path": str(path)}))


def _say(line: str) -> None:
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of the command."""
    with errors_as_lines():  # for the commands that others mount here
        app()


if __name__ == "__main__":
    main()
