"""One rule says what a client may be called, in data sets, on boards and at the gateway."""

from __future__ import annotations

import re

import pytest

from fl_client.home import DeviceData, DeviceSettings
from fl_core.client_id import client_id_problem, plain_client_id
from fl_core.errors import IdentityError, WireError
from fl_core.identity import check_client_id
from fl_core.records import decode_info, encode_info
from fl_core.types import ClientInfo

GOOD = ["a", "person-03", "Ward_3.bed-1", "0", "x" * 63]
BAD = ["", "ward 3/bed 1", "../../outside", "Zürich <b>", "a\nb", ".hidden", "-x", "x" * 64, "a/b", "ⅷ", "a\u0000"]


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_word_is_a_name_everywhere(name: str) -> None:
    assert client_id_problem(name) == ""
    assert check_client_id(name) == name
    assert DeviceSettings(name, DeviceData("mnist")).client_id == name
    assert decode_info(encode_info(ClientInfo(name, 8, "1", True)), "node 1").client_id == name


@pytest.mark.parametrize("name", BAD)
def test_what_could_leave_a_folder_or_a_line_is_a_name_nowhere(name: str) -> None:
    said = r"client_id: expected 1 to 63 letters"
    with pytest.raises(IdentityError, match=said):
        check_client_id(name)
    with pytest.raises(ValueError, match=said):
        DeviceSettings(name, DeviceData("mnist"))
    with pytest.raises(WireError, match=rf"info from node 1: {said}"):
        decode_info(encode_info(ClientInfo(name, 8, "1", True)), "node 1")
    assert "\n" not in client_id_problem(name)


@pytest.mark.parametrize(
    ("name", "proposal"),
    [("ward 3/bed 1", "ward-3-bed-1"), ("../../outside", "outside"), ("Zürich <b>", "Zurich-b"), (7, "7")],
)
def test_a_name_that_would_do_is_proposed(name: object, proposal: str) -> None:
    assert f"(try {proposal!r})" in client_id_problem(name)
    assert client_id_problem(proposal) == ""


@pytest.mark.parametrize("name", [*BAD, "日本", "---"])
def test_a_proposal_is_a_name_or_nothing(name: str) -> None:
    proposal = plain_client_id(name)
    assert proposal == "" or client_id_problem(proposal) == ""


def test_many_wrong_names_are_one_line_with_the_first_ones() -> None:
    problem = client_id_problem(*range(1000), "fine", None)
    assert re.search(r"got int 0 \(try '0'\), int 1 \(try '1'\), int 2 \(try '2'\) and 998 more$", problem)
