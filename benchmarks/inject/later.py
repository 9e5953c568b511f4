"""A wall clock that can be put forward for all processes of a federation, so that days pass for them in minutes.

Certificates, tokens and time stamps go by the wall clock, in Python, in nginx and in OpenSSL. A small library that is
preloaded into every process moves that clock and no other; it is compiled here and needs a C compiler.
"""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

from fl_core.errors import ConfigError

STEPS = 72
"""In so many steps a clock is put forward."""
_SOURCE = Path(__file__).with_name("later.c")


class LaterClock:
    """The wall clock of all processes that are started from now on."""

    def __init__(self, folder: Path) -> None:
        """Compile the library into ``folder`` and have it preloaded.

        Raises:
            ConfigError: there is no C compiler.
        """
        self._file, library = folder / "later.clock", folder / "later.so"
        try:
            subprocess.run(
                ["cc", "-O2", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl", "-lpthread"],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigError(f"later clock: expected a C compiler, cc, for the wall clock ({error})") from None
        self._ahead_s = 0
        self._file.write_bytes(struct.pack("q", 0))
        os.environ |= {"LD_PRELOAD": str(library), "LATER_FILE": str(self._file)}

    def pass_time(self, seconds: float, hours: int) -> None:
        """Let ``seconds`` pass, and ``hours`` by the wall clock of these processes."""
        for step in range(STEPS):
            time.sleep(seconds / STEPS)
            with self._file.open("r+b") as file:
                file.write(struct.pack("q", self._ahead_s + 3600 * hours * (step + 1) // STEPS))
        self._ahead_s += 3600 * hours
