"""Two boards of one identity are noticed while both are alive; a board that starts again is never taken for two."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timezone

import pytest

from fl_core.identity import twice_in_words
from fl_server.gateway.authority import IssuedCertificate, init_authority
from fl_server.gateway.devices import DeviceRegistry
from fl_server.gateway.doubles import SURE_S, Doubles, read_doubles
from fl_server.gateway.enrolment import EnrolmentService
from fl_server.gateway.releases import Releases

KEY, A, B, C = "PEM", "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
def doubles(tmp_path):
    return Doubles(tmp_path / "doubles.json")


def test_the_one_that_came_later_is_refused_once_the_other_is_heard_well_after_it_and_stays_refused(doubles):
    assert not doubles.is_second(KEY, A, 0)
    assert not doubles.is_second(KEY, B, 100)
    assert not doubles.is_second(KEY, A, 100 + SURE_S)
    assert doubles.is_second(KEY, B, 101 + SURE_S)
    assert doubles.is_refused(KEY, B)
    assert not doubles.is_second(KEY, A, 10_000)
    assert not doubles.is_refused(KEY, A)
    assert doubles.is_second(KEY, B, 20_000)


def test_a_board_that_starts_again_is_one_board_though_its_last_words_come_late(doubles):
    assert not doubles.is_second(KEY, A, 0)
    assert not doubles.is_second(KEY, B, 1)
    assert not doubles.is_second(KEY, A, SURE_S)  # sent before its end, and on its way since
    assert not doubles.is_second(KEY, B, 1000)
    for start in range(20):
        assert not doubles.is_second(KEY, f"{start:032x}", 2000 + start)


def test_a_second_board_that_is_refused_keeps_no_later_start_of_the_first_one_out(doubles):
    doubles.is_second(KEY, A, 0)
    doubles.is_second(KEY, B, 1)
    doubles.is_second(KEY, A, 50)
    assert doubles.is_second(KEY, B, 51)
    assert not doubles.is_second(KEY, C, 60)
    assert doubles.is_second(KEY, B, 200)
    assert not doubles.is_second(KEY, C, 201)


def test_other_enrolments_and_boards_that_name_no_start_are_no_seconds(doubles):
    for at in range(0, 100, 10):
        assert not doubles.is_second(KEY, A, at)
        assert not doubles.is_second("another", B, at)
        assert not doubles.is_second(KEY, "", at)
        assert not doubles.is_second(KEY, "no word of ours", at)


def test_the_service_refuses_the_second_board_in_words_and_tells_both_of_them(tmp_path):
    now_s = 1000.0
    authority = init_authority(tmp_path, [], datetime.fromtimestamp(now_s, timezone.utc))
    registry = DeviceRegistry(tmp_path / "devices.sqlite")
    registry.add_token(b"s", 2000.0, "board-7", True)
    registry.use_token(b"s", "tls", KEY, now_s)
    registry.add_certificate("board-7", IssuedCertificate(b"", "aa", "1", 1e9), now_s)
    releases, doubles = Releases(tmp_path / "releases.json"), Doubles(tmp_path / "doubles.json")
    service = EnrolmentService(authority, registry, releases, doubles, lambda: now_s, 7)
    header = b64encode(KEY.encode()).decode()
    assert service.refusal("aa", header, A) is None
    assert service.refusal("aa", header, B) is None
    now_s += 2 * SURE_S
    assert service.refusal("aa", header, A) is None
    assert "twice" not in service.status("aa", "", A)
    words = twice_in_words("board-7")
    assert service.refusal("aa", header, B) == words
    assert service.refusal("aa", header, A) is None
    assert service.status("aa", "", A)["twice"] == service.status("aa", "", B)["twice"] == words
    assert [service.status("aa", "", start).get("refused") for start in (A, B, "")] == [None, "second", None]
    registry.close()


def test_what_was_found_outlives_the_service_and_a_damaged_file_starts_anew(tmp_path, doubles):
    doubles.note("board-7", KEY, 100.0)
    doubles.note("board-7", KEY, 101.0)
    doubles.note("board-7", KEY, 200.0)
    found = Doubles(tmp_path / "doubles.json").of(KEY)
    assert found is not None
    assert (found.client_id, found.first_s, found.last_s) == ("board-7", 100.0, 200.0)
    (tmp_path / "doubles.json").write_text('{"doubles": [{}]}')
    assert read_doubles(tmp_path / "doubles.json") == {}
