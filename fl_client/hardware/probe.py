"""What a board is: model, memory, processor, accelerators, runtimes, sensors; read from Linux and from nothing else.

Everything is read below ``root``, so that tests can show it other boards. What cannot be read is left out, never
guessed. ``problems`` says what Stonecrop does not serve.
"""

from __future__ import annotations

import json
import os
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fl_core.errors import ConfigError

RUNTIMES = ("torch", "onnxruntime", "tensorrt", "ai-edge-litert", "tflite-runtime", "executorch", "openvino", "hailort")
"""Distributions that can train, or run an artefact."""
_CORAL_USB = {("1a6e", "089a"), ("18d1", "9302")}
"""Vendor and product of a Coral USB accelerator before and after its firmware is loaded."""
_NODES: Mapping[str, str] = {
    "dev/nvidia0": "NVIDIA GPU",
    "dev/nvhost-gpu": "NVIDIA Jetson GPU",
    "dev/nvgpu": "NVIDIA Jetson GPU",
    "dev/nvhost-nvdla0": "NVIDIA Jetson DLA",
    "dev/apex_0": "Coral Edge TPU (PCIe)",
    "dev/hailo0": "Hailo",
}
_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_POWER_CHIPS = ("ina3221", "ina219", "ina226", "ina238")


@dataclass(frozen=True)
class Sensor:
    """One sensor: where it is read, what it is called, and its value now."""

    path: str
    label: str
    value: float
    unit: str
    """W, mV, mA or degC."""


@dataclass(frozen=True)
class Board:
    """What was found. Sizes in bytes."""

    model: str
    machine: str
    pointer_bits: int
    system: str
    l4t: str
    """Release of NVIDIA's Jetson Linux, such as "36.4"; empty elsewhere."""
    cpu: str
    cores: int
    memory_bytes: int
    available_bytes: int
    swap_bytes: int
    accelerators: tuple[str, ...]
    runtimes: Mapping[str, str]
    """Versions of those of ``RUNTIMES`` that are installed for the Python that trains."""
    power: tuple[Sensor, ...]
    thermal: tuple[Sensor, ...]
    problems: tuple[str, ...]


def probe(root: Path = Path("/"), python: str = sys.executable) -> Board:
    """Look at the board whose file system is ``root``, and at what the interpreter ``python`` has to train with.

    Raises:
        ConfigError: ``python`` is no Python that runs here.
    """
    memory = _memory(root)
    l4t = _l4t(root)
    machine, bits = platform.machine(), struct.calcsize("P") * 8
    return Board(
        model=text_of(root / "proc/device-tree/model") or text_of(root / "sys/class/dmi/id/product_name"),
        machine=machine,
        pointer_bits=bits,
        system=_system(root),
        l4t=l4t,
        cpu=_cpu(root),
        cores=os.cpu_count() or 1,
        memory_bytes=memory.get("MemTotal", 0),
        available_bytes=memory.get("MemAvailable", 0),
        swap_bytes=memory.get("SwapTotal", 0),
        accelerators=tuple(dict.fromkeys(_accelerators(root))),
        runtimes=_runtimes(python),
        power=tuple(_power(root)),
        thermal=tuple(thermal(root)),
        problems=tuple(problems_of(bits, l4t, memory.get("MemTotal", 0), memory.get("SwapTotal", 0))),
    )


def problems_of(pointer_bits: int, l4t: str, memory_bytes: int, swap_bytes: int) -> Iterator[str]:
    """What Stonecrop does not serve on such a board, in words for its owner."""
    if pointer_bits != 64:
        yield "a 32-bit system: neither numpy nor torch has packages for it; install a 64-bit system"
    if l4t and int(l4t.partition(".")[0]) < 36:
        yield f"Jetson Linux {l4t} (JetPack 5 or older): its Python is too old; install JetPack 6"
    if 0 < memory_bytes + swap_bytes < 1.5e9:
        yield f"{(memory_bytes + swap_bytes) / 1e6:.0f} MB of memory with swap: torch alone takes 300; add swap"


def text_of(path: Path) -> str:
    """A small file's text without blanks around it; empty where it cannot be read."""
    with suppress(OSError):
        return path.read_bytes().decode(errors="replace").strip(" \0\n\t")
    return ""


def number_of(path: Path) -> float | None:
    """The number in a small file; None where there is none."""
    with suppress(ValueError):
        return float(text_of(path))
    return None


def _memory(root: Path) -> dict[str, int]:
    lines = text_of(root / "proc/meminfo").splitlines()
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) == 3}  # given in kB


def _system(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text_of(root / "etc/os-release"), re.M)
    return found[1] if found else ""


def _l4t(root: Path) -> str:
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text_of(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else ""


def _cpu(root: Path) -> str:
    text = text_of(root / "proc/cpuinfo")
    for key in ("model name", "Model", "CPU part"):
        found = re.search(rf"^{key}\s*:\s*(.+)$", text, re.M)
        if found:
            return found[1]
    return ""


def _accelerators(root: Path) -> Iterator[str]:
    for node, name in _NODES.items():
        if (root / node).exists():
            yield name
    for device in sorted((root / "sys/bus/usb/devices").glob("*")):
        if (text_of(device / "idVendor"), text_of(device / "idProduct")) in _CORAL_USB:
            yield "Coral Edge TPU (USB)"


def _runtimes(python: str) -> dict[str, str]:
    try:
        said = subprocess.run([python, "-c", _VERSIONS, *RUNTIMES], capture_output=True, text=True, check=True).stdout
        return dict(json.loads(said))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(f"trainer python: expected a Python that runs here, got {python} ({error})") from None


def _power(root: Path) -> Iterator[Sensor]:
    """Rails of INA chips, whose driver gives mV and mA, and every hwmon chip that gives microwatts."""
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = text_of(chip / "name")
        for path in sorted(chip.glob("power*_input")):
            microwatts = number_of(path)
            if microwatts is not None:
                label = text_of(path.with_name(f"{path.stem[:-6]}_label")) or name
                yield Sensor(str(path), label, microwatts / 1e6, "W")
        if name not in _POWER_CHIPS:
            continue
        for path in sorted(chip.glob("curr*_input")):
            channel = path.stem[4:-6]
            milliamperes, millivolts = number_of(path), number_of(chip / f"in{channel}_input")
            label = text_of(chip / f"in{channel}_label") or f"{name} {channel}"
            if milliamperes is not None and millivolts is not None:
                yield Sensor(str(path), label, milliamperes * millivolts / 1e6, "W")


def thermal(root: Path) -> Iterator[Sensor]:
    """The thermal zones that can be read, in degrees Celsius."""
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = number_of(zone / "temp")
        if millidegrees is not None:
            yield Sensor(str(zone / "temp"), text_of(zone / "type"), millidegrees / 1000, "degC")
