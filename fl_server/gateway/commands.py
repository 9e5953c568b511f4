"""The commands ``fl-server devices`` and ``fl-server token``: sub-apps for the command that mounts them.

Each takes the server's folder DIR. With ``--json`` standard output holds one JSON document and nothing else; errors
are left to the mounting command, which turns the error tree into lines and exit codes.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fl_core.process.options import finite
from fl_server.gateway.devices import EnrolledDevice
from fl_server.gateway.operate import TOKEN_HOURS, approve_device, create_token, list_devices, revoke_device
from fl_server.gateway.waiting import devices_waiting

devices_app = typer.Typer(
    help="Who may take part: list, approve and revoke devices.", no_args_is_help=True, rich_markup_mode="rich"
)
token_app = typer.Typer(help="One-time tokens that enrol a device.", no_args_is_help=True, rich_markup_mode="rich")

ServerDir = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the server.", show_default=False)]
ClientId = Annotated[str, typer.Argument(metavar="CLIENT", help="Name of the device, as listed.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@devices_app.command("list", epilog="Example:\n\nfl-server devices list fleet --json")
def list_(root: ServerDir, as_json: AsJson = False) -> None:
    """All devices: status, enrolled, last seen, end of the certificate."""
    devices, waiting = list_devices(root), devices_waiting(root, time.time())
    if as_json:
        rows = [{**_row(device), "takes_no_part": waiting.get(device.client_id)} for device in devices]
        typer.echo(json.dumps({"devices": rows}, indent=2))
        return
    table = Table("device", "status", "enrolled", "last seen", "certificate ends", "takes no part")
    for device in devices:
        ends = _words(device.certificate_ends_s)
        times = _words(device.enrolled_s), _words(device.last_seen_s), ends
        table.add_row(device.client_id, device.status, *times, waiting.get(device.client_id, ""))
    Console(emoji=False).print(table)


@devices_app.command(epilog="Example:\n\nfl-server devices approve fleet jetson-1")
def approve(root: ServerDir, client_id: ClientId, as_json: AsJson = False) -> None:
    """Let a device in that has enrolled and waits."""
    _say(approve_device(root, client_id), as_json)


@devices_app.command(epilog="Example:\n\nfl-server devices revoke fleet jetson-1")
def revoke(root: ServerDir, client_id: ClientId, as_json: AsJson = False) -> None:
    """Lock a device out, from its next request on; open connections are cut within a minute."""
    _say(revoke_device(root, client_id), as_json)


@token_app.command(epilog="Example:\n\nfl-server token create fleet --client jetson-1 --auto-approve")
def create(
    root: ServerDir,
    client_id: Annotated[
        str | None, typer.Option("--client", help="Name of the device.", show_default="a UUID")
    ] = None,
    auto_approve: Annotated[bool, typer.Option("--auto-approve", help="Let the device in at once.")] = False,
    hours: Annotated[
        float, typer.Option(min=0.01, max=24 * 30, callback=finite, help="How long the token holds.")
    ] = TOKEN_HOURS,
    as_json: AsJson = False,
) -> None:
    """Make a token; whoever has it can enrol one device, once."""
    now_s = time.time()
    token = create_token(root, client_id=client_id, auto_approve=auto_approve, hours=hours, now_s=now_s)
    if as_json:
        record = {"token": token, "client_id": client_id, "auto_approve": auto_approve}
        typer.echo(json.dumps({**record, "expires": _iso(now_s + 3600 * hours)}, indent=2))
    else:
        typer.echo(token)


@token_app.callback()
def _of_tokens() -> None:
    """Keep ``create`` a command of its own; typer would fold a single one away."""


def _say(device: EnrolledDevice, as_json: bool) -> None:
    typer.echo(json.dumps(_row(device), indent=2) if as_json else f"{device.client_id} is {device.status}")


def _row(device: EnrolledDevice) -> dict[str, Any]:
    return {
        "client_id": device.client_id,
        "status": device.status,
        "enrolled": _iso(device.enrolled_s),
        "last_seen": _iso(device.last_seen_s),
        "certificate_ends": _iso(device.certificate_ends_s),
    }


def _iso(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="seconds")


def _words(at_s: float | None) -> str:
    return "never" if at_s is None else datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
