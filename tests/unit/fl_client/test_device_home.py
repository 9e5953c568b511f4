"""The home of a device: every wrong field is named, and an owner's file is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_client.home import open_home, start_home
from fl_core.errors import ConfigError

WHOLE = "client_id: a\ndata: {name: mnist}\n"


def home(folder: Path, text: str) -> Path:
    (folder / "device.yaml").write_text(text)
    return folder


def test_a_short_file_is_enough_and_allows_no_foreign_code(tmp_path):
    device = open_home(home(tmp_path, WHOLE)).device
    assert (device.client_id, device.data.name, device.factories, device.simulated) == ("a", "mnist", (), False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {name: mnist}", "client_id"),
        ("client_id: a\ndata: {}", "exactly one of data.name and data.factory"),
        (WHOLE + "simulate: true", "simulate: there is no such field"),
        (WHOLE + "factories: [evil]", "package.module:callable"),
        (WHOLE + "threads: 0", "at least 1"),
        (WHOLE + "simulated: perhaps", "simulated"),
        ("client_id: a\ndata: {name: mnist, sed: 1}", "data.sed: there is no such field"),
        ("[1, 2]", "fields by name"),
        ("a: {", "not readable"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(ConfigError, match=r".") as caught:
        open_home(home(tmp_path, text))
    assert words in str(caught.value)


def test_a_folder_without_a_device_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"device\.yaml, found none"):
        open_home(tmp_path)


def test_a_new_device_gets_a_file_to_fill_in_and_an_old_one_keeps_its_own(tmp_path):
    assert start_home(tmp_path, "board-7")
    with pytest.raises(ConfigError, match="exactly one of"):
        open_home(tmp_path)
    assert not start_home(tmp_path, "board-7")
    home(tmp_path, WHOLE)
    with pytest.raises(ConfigError, match=r"expected 'board-7'.*got 'a'"):
        start_home(tmp_path, "board-7")
    assert (tmp_path / "device.yaml").read_text() == WHOLE
