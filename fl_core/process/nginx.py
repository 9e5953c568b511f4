"""nginx as this project runs it: in the foreground, from one configuration file, in folders that this file names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fl_core.errors import IdentityError

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""Kinds of bodies for which nginx wants a folder, whether it ever writes there or not."""


def foreground_command(configuration: Path, machine: str) -> list[str]:
    """The command line that runs nginx in the foreground; errors go to standard error.

    Args:
        configuration: an absolute path; its folder is nginx's prefix.
        machine: what to call this machine where nginx is missing, such as "board".

    Raises:
        IdentityError: nginx is not installed.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise IdentityError(f"nginx: expected on this {machine}, found none; install it: apt install nginx-light")
    return [program, "-p", str(configuration.parent), "-c", str(configuration), "-e", "stderr"]


def check_path(path: Path) -> None:
    """Refuse a path that nginx's configuration would misread.

    Raises:
        IdentityError: it holds a blank, a quote, a brace, a backslash, a semicolon or a dollar sign.
    """
    if any(character in str(path) for character in "\"'\\;{}$ \n"):
        raise IdentityError(f"{path}: expected a path without spaces, quotes, braces or dollar signs for nginx")


def temporary_paths(folder: Path) -> str:
    """Lines that put nginx's temporary files below ``folder``: the system's own may belong to another nginx."""
    return " ".join(f"{kind}_temp_path {folder / kind};" for kind in _TEMPORARY)
