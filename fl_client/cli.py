"""fl-client: the command of everybody who owns a board. Enrol, run, probe, ledger, replace-ledger, status, service.

Everything for people goes to standard error or, where it is the answer, to standard output; ``--json`` gives the same
for a script. Errors that a user can cause are one line each, without a traceback, with the exit code of their branch
of the error tree. This process stays up as long as a board does, so it loads no torch.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fl_core.errors import ConfigError, ServerAwayError
from fl_core.process.command import EXIT_CODES_HELP, LogFormatOption, errors_as_lines
from fl_core.process.loopback import keep_loopback_direct
from fl_core.process.structured_log import LogFormat, start_logging

app = typer.Typer(
    name="fl-client",
    help="A device of a federation: its data stay here, its privacy budget is kept here, its owner decides here.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
service_app = typer.Typer(help="Start at boot, as three users of the system.", no_args_is_help=True)
app.add_typer(service_app, name="service")

Home = Annotated[
    Path,
    typer.Option("--home", envvar="STONECROP_HOME", help="Folder of the device, with device.yaml and policy.json."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
TrainerPython = Annotated[
    Path, typer.Option(help="Python that trains, where torch is another one's.", show_default=False)
]
ForwarderPort = Annotated[int, typer.Option(min=1, max=65535, help="Loopback port of the forwarder.")]
SupernodePort = Annotated[int, typer.Option(min=1, max=65535, help="Loopback port of the SuperNode.")]
DEFAULT_HOME = Path("~/.stonecrop")


@app.command(epilog="Example:\n\nfl-client enrol https://fleet.example.org:8443 stonecrop1.k3J... --home /srv/board")
def enrol(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the gateway.", show_default=False)],
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The one-time token, '-' to read it.", show_default=False)
    ],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Make this device known to a server: keys are made here, and a short certificate comes back for a token."""
    with errors_as_lines():
        from fl_client.home import DEVICE_FILE, start_home, writable_home
        from fl_client.node.identity import enrol as enrol_device
        from fl_client.node.standing import standing_of

        folder = writable_home(home, make=True)
        text = sys.stdin.readline() if token == "-" else token
        identity, status = enrol_device(folder, url, text)
        fresh = start_home(folder, identity.client_id)
        with suppress(ServerAwayError):
            trouble = standing_of(folder).trouble
            if trouble is not None:
                typer.echo(f"It takes no part yet: {trouble}", err=True)
        if as_json:
            typer.echo(json.dumps({"client_id": identity.client_id, "status": status, "home": str(folder)}))
            return
        typer.echo(f"This device is {identity.client_id} now; the server says: {status}.")
        if fresh:
            typer.echo(f"Say which data it holds in {folder / DEVICE_FILE}, and what it allows in policy.json.")
            typer.echo("Where it runs as services, both are read from the trainer's home instead: /var/lib/stonecrop.")


@app.command(epilog="Example:\n\nfl-client run --home /srv/board")
def run(
    home: Home = DEFAULT_HOME,
    trainer_python: TrainerPython = Path(sys.executable),
    forwarder_port: ForwarderPort = 9120,
    supernode_port: SupernodePort = 9121,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port of /metrics and /healthz.")] = 9122,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Take part until Ctrl-C: trainer, forwarder and SuperNode are kept up, whatever the network does."""
    with errors_as_lines():
        from fl_client.board.supervise import Ports, run_board
        from fl_client.home import open_home, writable_home

        start_logging(log_format)
        keep_loopback_direct()
        ports = Ports(forwarder_port, supernode_port, metrics_port)
        run_board(open_home(writable_home(home)), ports, str(trainer_python))


@app.command(hidden=True, epilog="Example:\n\nfl-client node --socket /run/stonecrop/trainer.sock --secret FILE")
def node(
    socket: Annotated[Path, typer.Option(help="The trainer's socket.", readable=False)],
    secret: Annotated[Path, typer.Option(help="File with the secret of the shells.")],
    home: Home = DEFAULT_HOME,
    forwarder_port: ForwarderPort = 9120,
    supernode_port: SupernodePort = 9121,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Forwarder and SuperNode alone, for the system's service."""
    with errors_as_lines():
        from fl_client.board.supervise import Ports, run_node
        from fl_client.home import writable_home

        start_logging(log_format)
        keep_loopback_direct()
        run_node(writable_home(home), Ports(forwarder_port, supernode_port, None), socket, secret)


@app.command(epilog="Example:\n\nfl-client probe --json")
def probe(trainer_python: TrainerPython = Path(sys.executable), as_json: AsJson = False) -> None:
    """What this board is: memory, processor, accelerators, runtimes, sensors; and what it cannot do."""
    with errors_as_lines():
        from fl_client.hardware.probe import probe as look

        board = look(python=str(trainer_python))
        if as_json:
            typer.echo(json.dumps(asdict(board)))
            return
        for name, value in asdict(board).items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {text}" for key, text in value.items())
            elif name in ("power", "thermal"):
                value = ", ".join(f"{sensor['label']} {sensor['value']:.1f} {sensor['unit']}" for sensor in value)
            elif name.endswith("_bytes"):
                name, value = name.removesuffix("_bytes"), f"{value / 1e6:.0f} MB"
            elif isinstance(value, tuple):
                value = "; ".join(value)
            typer.echo(f"{name:13} {value if value != '' else '-'}")


@app.command(epilog="Example:\n\nfl-client ledger --home /srv/board")
def ledger(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """What this device's data has spent of its privacy budget, in words."""
    with errors_as_lines():
        from fl_client.board.privacy_account import account_of, in_words
        from fl_client.home import home_folder, open_home

        account = account_of(open_home(home_folder(home)))
        typer.echo(json.dumps(asdict(account)) if as_json else in_words(account))


@app.command(epilog="Example:\n\nfl-client replace-ledger --home /srv/board")
def replace_ledger(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Begin the ledger again where the newest one is lost; all that is known to be spent stays spent."""
    with errors_as_lines():
        from fl_client.board.lost_ledger import in_words, replace_ledger
        from fl_client.home import open_home

        loss = replace_ledger(open_home(home.expanduser()))
        typer.echo(json.dumps(asdict(loss), default=str) if as_json else "\n".join(in_words(loss)))


@app.command(epilog="Example:\n\nfl-client status --home /srv/board --json")
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """What runs now: trainer, services, processes, memory."""
    with errors_as_lines():
        from fl_client.board.status import in_words, status_of_board
        from fl_client.home import home_folder

        found = status_of_board(home_folder(home))
        typer.echo(json.dumps(found) if as_json else "\n".join(in_words(found)))


@service_app.command(epilog="Example:\n\nsudo fl-client service install --start")
def install(
    home: Annotated[Path, typer.Option(help="Folder of the trainer.")] = Path("/var/lib/stonecrop"),
    node_home: Annotated[Path, typer.Option(help="Folder of the keys.")] = Path("/var/lib/stonecrop-node"),
    trainer_python: TrainerPython = Path(sys.executable),
    system: Annotated[Path, typer.Option(help="Root of the file system to write to.")] = Path("/"),
    start: Annotated[bool, typer.Option("--start", help="Start now and at every boot.")] = False,
    as_json: AsJson = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Write hardened systemd units and their users; print the paths."""
    with errors_as_lines():
        from fl_client.board import services as service

        if start and system != Path("/"):
            raise ConfigError(f"service install: --start is for the running system, not for {system}")
        where = service.Installation(home, node_home, trainer_python, log_format=log_format)
        written = [str(path) for path in service.install(where, system)]
        if start:
            service.start()
        typer.echo(json.dumps({"written": written, "started": start}) if as_json else "\n".join(written))


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
