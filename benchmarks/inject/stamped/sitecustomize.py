"""Notes when each process of a board says what, in every Python process that has this folder on its path.

Python imports a module of this name at its start. Every record that is logged, shown or not, becomes one line of the
file that ``STONECROP_STAMPS`` names: seconds since 1970, folder of the device, seconds since 1970 when the process was
born, words. Nothing of the process itself is changed.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

_WORDS = ("[RUN ", "Receiving: ", "Received ", "Sending: ", "Sent ", "Start ", "[flwr-clientapp] Start ", "run ")
"""What records begin with that tell where a message is."""


def _birth_s() -> float:
    """When this process was born or forked, to the kernel's tick of 10 ms."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def _stamp_into(path: str, home: str) -> None:
    make = logging.getLogRecordFactory()

    def stamped(*args: Any, **fields: Any) -> logging.LogRecord:
        record = make(*args, **fields)
        words = record.getMessage()
        if words.startswith(_WORDS):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{record.created:.4f}\t{home}\t{_birth_s():.4f}\t{words}\n")
        return record

    logging.setLogRecordFactory(stamped)


if "STONECROP_STAMPS" in os.environ and "STONECROP_PROCESSES_OF" in os.environ:
    _stamp_into(os.environ["STONECROP_STAMPS"], os.environ["STONECROP_PROCESSES_OF"])
