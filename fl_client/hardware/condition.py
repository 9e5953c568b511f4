"""How a device is right now: its battery, whether it charges, how hot it is; for servers that spare batteries and heat.

The figures are those that ``ClientInfo.device`` names. They leave the device only where its owner says so, for they
tell when somebody is at home, and no privacy budget covers them. Everything is read below ``root``, as in ``probe``;
what cannot be read is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fl_client.hardware.probe import number_of, text_of, thermal


def condition_of(root: Path = Path("/")) -> Mapping[str, float]:
    """``battery_share`` (0 to 1, of the emptiest), ``charging`` (0 or 1) and ``temperature_c`` (of the hottest zone).

    ``charging`` is 1 where any supply is plugged in or a battery says that it charges or is full; sysfs-class-power.
    """
    shares: list[float] = []
    plugged: list[bool] = []
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if text_of(supply / "scope") == "Device":  # of a mouse, say
            continue
        if text_of(supply / "type") == "Battery":
            percent = number_of(supply / "capacity")
            shares += [] if percent is None else [min(max(percent / 100, 0.0), 1.0)]
            plugged.append(text_of(supply / "status") in ("Charging", "Full"))
        elif text_of(supply / "online"):
            plugged.append(number_of(supply / "online") not in (0.0, None))
    found: dict[str, float] = {}
    if shares:
        found["battery_share"] = min(shares)
    if plugged:
        found["charging"] = float(any(plugged))
    celsius = [sensor.value for sensor in thermal(root)]
    if celsius:
        found["temperature_c"] = max(celsius)
    return found
