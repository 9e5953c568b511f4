"""Disks that refuse, for real: files that may not grow, and a file system of a few kilobytes."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_of_at_most(limit_bytes: int) -> Iterator[None]:
    """No file of this process, nor of those that it starts, grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of so many kilobytes at ``folder``; the test is skipped where nobody may mount one."""
    folder.mkdir()
    mounted = _mount(folder, f"size={kilobytes}k")
    if not mounted:
        pytest.skip("expected the right to mount a file system, which root has")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_room(folder: Path, megabytes: int = 20) -> None:
    """Let a small disk grow."""
    assert _mount(folder, f"remount,size={megabytes}m")


def _mount(folder: Path, options: str) -> bool:
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
