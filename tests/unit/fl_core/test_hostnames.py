"""A host has one form, however it is written; what is no host is refused in words that lead to one."""

from __future__ import annotations

import pytest

from fl_core.hostnames import bracketed, canonical_address, canonical_host, is_address


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("localhost", "localhost"),
        ("Fleet.Example", "fleet.example"),
        ("fleet.example.", "fleet.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2003 made strasse of it, which is another host
        ("日本語。jp", "xn--wgv71a119e.jp"),
        ("10.0.0.7", "10.0.0.7"),
        ("fd00:0:0::5", "fd00::5"),
        ("FD00::5", "fd00::5"),
    ],
)
def test_a_host_gets_the_form_that_a_certificate_holds(written: str, canonical: str) -> None:
    assert canonical_host(written) == canonical
    assert canonical_host(canonical) == canonical


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "got ''"),
        (" ", "got ' '"),
        ("pi gateway", "letters, digits and dashes"),
        ("fleet.example\n", "letters, digits and dashes"),
        ("https://fleet.example", "leave out the scheme"),
        ("fleet.example/v1", "leave out everything after"),
        ("me@fleet.example", "leave out everything before"),
        ("[fd00::5]", "without brackets"),
        ("fleet.example:8443", "the port is given apart"),
        ("fe80::1%eth0", "a zone"),
        ("0.0.0.0", "the one that others reach"),
        ("::", "the one that others reach"),
        ("pi_gateway", "no underscores"),
        ("*.example", "the name itself"),
        ("a..b", "1 to 63"),
        ("-pi.example", "no dash at an end"),
        ("a" * 64 + ".example", "1 to 63"),
        (".".join(["abc"] * 64), "at most 253"),
        ("10.0.0.300", "four numbers"),
        ("10.1", "four numbers"),
        ("0x7f.1", "four numbers"),
        ("xn--a", "expected a DNS name"),
        ("☃.example", "expected a DNS name"),
        ("fleet.example" * 40, "…"),
    ],
)
def test_what_is_no_host_is_refused_with_what_to_write(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        canonical_host(written)
    assert "expected a DNS name" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("written", ["", "localhost", "[::1]", "::1%lo", "10.0.0.7:80", "10.1"])
def test_what_a_process_listens_on_is_an_address_and_nothing_else(written: str) -> None:
    with pytest.raises(ValueError, match="expected an IPv4 or IPv6 address"):
        canonical_address(written)


def test_an_address_is_told_from_a_name_and_has_brackets_before_a_port() -> None:
    assert [is_address(host) for host in ("10.0.0.7", "fd00::5", "fleet.example", "xn--bcher-kva.example")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert (bracketed("fd00::5"), bracketed("10.0.0.7"), bracketed("pi")) == ("[fd00::5]", "10.0.0.7", "pi")
    assert (canonical_address("FD00:0::5"), canonical_address("0.0.0.0"), canonical_address("::")) == (
        "fd00::5", "0.0.0.0", "::",
    )  # fmt: skip
