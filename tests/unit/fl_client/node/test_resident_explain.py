"""The end of a SuperNode's log in plain words: what is known is said, a wrong clock is found, nothing is guessed."""

from __future__ import annotations

import pytest

from fl_client.node.explain import explain_clock, explain_end, with_clock, with_server
from fl_client.standing import Standing
from fl_core.errors import IdentityError, ServerAwayError


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("Exit Code: 305\n[code: 2004] Failed to activate SuperNode.", "lets go of it within 60 s"),
        ("ERROR: SSL/TLS handshake error detected.", "cut"),
        ("Client error '401 Unauthorized' for url", "signature"),
        ("Client error '403 Forbidden'", "revoked"),
        ("WARNING: Connection attempt failed, retrying in 8.00 seconds", "cannot be reached"),
        ("[emerg] 7#7: bind() to 127.0.0.1:9555 failed (98: Address already in use)", "port 9555; end it"),
        (
            "[Errno 98] error while attempting to bind on address ('127.0.0.1', 9556): address already in use",
            "port 9556; end it, or start with another --forwarder-port and --supernode-port",
        ),
        ('nginx: [emerg] host not found in upstream "fleet:8443"', "cannot be reached"),
    ],
)
def test_the_end_of_a_supernode_is_said_in_plain_words(tail, words):
    end = explain_end(tail)
    assert end is not None
    assert words in end.words


def test_what_is_not_known_is_not_guessed():
    assert explain_end("something new") is None


@pytest.mark.parametrize(("ahead_s", "wrong"), [(0, False), (-290, False), (-3600, True), (30, True), (3600, True)])
def test_a_wrong_clock_is_said_with_its_error_and_what_to_do(ahead_s, wrong):
    words = explain_clock(ahead_s)
    assert (words is not None) == wrong
    assert words is None or (f"{abs(ahead_s)} s" in words and "timedatectl" in words)


def test_a_refused_signature_leads_to_the_clock_and_an_absent_server_does_not_hide_it():
    behind = with_clock(lambda: -3600.0)("401 Unauthorized")
    assert behind is not None
    assert "3600 s behind" in behind.words

    def away() -> float:
        raise ServerAwayError("no")

    end = with_clock(away)("401 Unauthorized")
    assert end is not None
    assert "signature" in end.words


def test_an_end_that_says_nothing_leads_to_the_clock_too():
    unknown = with_clock(lambda: 3600.0)("SuperNode terminated gracefully.")
    assert unknown is not None
    assert "3600 s ahead" in unknown.words
    assert with_clock(lambda: 0.0)("SuperNode terminated gracefully.") is None


def test_a_board_that_the_server_has_no_use_for_says_why_whatever_its_log_says_and_goes_on_trying():
    end = with_server(lambda: Standing("board-7: waits for approval"), explain_end)("SuperNode terminated gracefully.")
    assert end is not None
    assert (end.words, end.exit_code) == ("board-7: waits for approval", None)


def test_a_board_that_the_server_refuses_as_a_second_one_ends_for_good_whatever_its_log_says():
    refused = Standing("two devices use the identity board-7", is_second=True)
    end = with_server(lambda: refused, explain_end)("SuperNode terminated gracefully.")
    assert end is not None
    assert (end.words, end.exit_code) == ("two devices use the identity board-7", IdentityError.exit_code)


def test_a_board_that_is_not_refused_or_cannot_ask_goes_on_trying():
    def away() -> Standing:
        raise ServerAwayError("no")

    for ask in (Standing, lambda: Standing(twice="two devices use the identity board-7"), away):
        end = with_server(ask, explain_end)("[code: 2004] Failed to activate SuperNode.")
        assert end is not None
        assert "lets go of it within 60 s" in end.words
        assert end.exit_code is None
