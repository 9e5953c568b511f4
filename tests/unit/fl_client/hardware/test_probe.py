"""The probe, shown the files of other boards: a Jetson with its rails, a Pi with a Coral, and what is not served."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_client.hardware.condition import condition_of
from fl_client.hardware.probe import probe, problems_of
from fl_core.errors import ConfigError


def board(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_jetson_shows_its_gpu_its_release_and_the_power_of_its_rails(tmp_path):
    found = probe(
        board(
            tmp_path,
            **{
                "proc__device-tree__model": "NVIDIA Jetson Orin Nano Developer Kit\0",
                "proc__meminfo": "MemTotal:  7802904 kB\nMemAvailable: 5000000 kB\nSwapTotal: 0 kB\n",
                "etc__nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
                "dev__nvhost-gpu": "",
                "sys__class__hwmon__hwmon1__name": "ina3221\n",
                "sys__class__hwmon__hwmon1__in1_label": "VDD_IN\n",
                "sys__class__hwmon__hwmon1__in1_input": "5000\n",
                "sys__class__hwmon__hwmon1__curr1_input": "1200\n",
                "sys__class__thermal__thermal_zone0__type": "cpu-thermal\n",
                "sys__class__thermal__thermal_zone0__temp": "48500\n",
            },
        )
    )
    assert found.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found.l4t == "36.4.3"
    assert found.memory_bytes == 7802904 * 1024
    assert found.accelerators == ("NVIDIA Jetson GPU",)
    assert [(sensor.label, sensor.value, sensor.unit) for sensor in found.power] == [("VDD_IN", 6.0, "W")]
    assert [(sensor.label, sensor.value, sensor.unit) for sensor in found.thermal] == [("cpu-thermal", 48.5, "degC")]
    assert found.problems == ()


def test_a_pi_shows_its_accelerators(tmp_path):
    found = probe(
        board(
            tmp_path,
            **{
                "proc__device-tree__model": "Raspberry Pi 5 Model B Rev 1.0\0",
                "dev__hailo0": "",
                "sys__bus__usb__devices__1-1__idVendor": "1a6e\n",
                "sys__bus__usb__devices__1-1__idProduct": "089a\n",
            },
        )
    )
    assert found.accelerators == ("Hailo", "Coral Edge TPU (USB)")


def test_what_cannot_be_read_is_left_out(tmp_path):
    found = probe(tmp_path)
    assert (found.model, found.l4t, found.accelerators, found.power, found.thermal) == ("", "", (), (), ())


def test_this_machine_has_memory_and_torch():
    found = probe()
    assert found.memory_bytes > found.available_bytes > 0
    assert "torch" in found.runtimes


def test_runtimes_are_those_of_the_python_that_trains(tmp_path):
    trainer = tmp_path / "python"
    trainer.write_text('#!/bin/sh\necho \'{"torch": "2.5.0"}\'\n')
    trainer.chmod(0o755)
    assert probe(python=str(trainer)).runtimes == {"torch": "2.5.0"}
    with pytest.raises(ConfigError, match="trainer python: expected a Python that runs here"):
        probe(python=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("bits", "l4t", "memory_bytes", "words"),
    [(32, "", 4e9, "32-bit"), (64, "35.4.1", 8e9, "JetPack 5"), (64, "", 1e9, "add swap")],
)
def test_what_is_not_served_is_said_with_the_way_out(bits, l4t, memory_bytes, words):
    (problem,) = problems_of(bits, l4t, int(memory_bytes), 0)
    assert words in problem


def test_a_device_on_battery_says_how_full_it_is_and_how_hot(tmp_path):
    supply, zone = "sys__class__power_supply__", "sys__class__thermal__thermal_zone"
    on_battery = {
        f"{supply}BAT0__type": "Battery\n",
        f"{supply}BAT0__capacity": "41\n",
        f"{supply}BAT0__status": "Discharging\n",
        f"{supply}AC__type": "Mains\n",
        f"{supply}AC__online": "0\n",
        f"{supply}mouse__type": "Battery\n",
        f"{supply}mouse__scope": "Device\n",
        f"{supply}mouse__capacity": "3\n",
        f"{zone}0__temp": "48500\n",
        f"{zone}1__temp": "61000\n",
    }
    assert condition_of(board(tmp_path, **on_battery)) == {
        "battery_share": 0.41, "charging": 0.0, "temperature_c": 61.0,
    }  # fmt: skip
    assert condition_of(board(tmp_path, **{f"{supply}AC__online": "1\n"}))["charging"] == 1.0


def test_what_a_board_has_no_sensor_for_it_does_not_say(tmp_path):
    assert condition_of(tmp_path) == {}
