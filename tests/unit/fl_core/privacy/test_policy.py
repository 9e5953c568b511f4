"""A server can be stricter than the device's policy, never laxer, and a refusal says what and why."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import PolicyError
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms

POLICY = DevicePolicy(epsilon_cap=8.0, delta=1e-5, max_clip_norm=1.0, min_noise_multiplier=0.8, max_sample_rate=0.25)
TERMS = DpTerms(
    epsilon=8.0, delta=1e-5, clip_norm=1.0, noise_multiplier=0.8, sample_rate=0.25, steps=10, normaliser=50.0
)


def test_terms_at_the_limit_pass() -> None:
    POLICY.check(TERMS)


@pytest.mark.parametrize(
    "stricter",
    [{"epsilon": 1.0}, {"delta": 1e-6}, {"clip_norm": 0.1}, {"noise_multiplier": 5.0}, {"sample_rate": 0.01}],
)
def test_a_server_may_be_stricter(stricter: dict[str, Any]) -> None:
    POLICY.check(dataclasses.replace(TERMS, **stricter))


@pytest.mark.parametrize(
    ("field", "laxer", "limit"),
    [
        ("epsilon", 8.5, "8.0"),
        ("delta", 1e-4, "1e-05"),
        ("clip_norm", 1.5, "1.0"),
        ("noise_multiplier", 0.7, "0.8"),
        ("sample_rate", 0.5, "0.25"),
    ],
)
def test_a_laxer_server_is_refused_by_field_limit_and_value(field: str, laxer: float, limit: str) -> None:
    with pytest.raises(PolicyError) as refusal:
        POLICY.check(dataclasses.replace(TERMS, **{field: laxer}))
    assert str(refusal.value).startswith(field)
    assert limit in str(refusal.value)
    assert str(laxer) in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize(
    "field", ["epsilon", "delta", "clip_norm", "noise_multiplier", "sample_rate", "steps", "normaliser"]
)
def test_numbers_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(PolicyError, match=field):
        POLICY.check(dataclasses.replace(TERMS, **{field: value}))


def test_an_unknown_accountant_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"one of pld, rdp, got 'moments'"):
        POLICY.check(dataclasses.replace(TERMS, accountant="moments"))


@pytest.mark.parametrize("name", ["policy.json", "policy.yaml"])
def test_a_saved_policy_loads_as_it_was(tmp_path: Path, name: str) -> None:
    POLICY.save(tmp_path / name)
    assert DevicePolicy.load(tmp_path / name) == POLICY
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_policy_written_by_hand_loads(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("epsilon_cap: 8\ndelta: 1e-5\nmax_clip_norm: 1\nmin_noise_multiplier: 0.8\nmax_sample_rate: 0.25\n")
    assert DevicePolicy.load(path) == POLICY


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "expected the fields"),
        ("[1, 2]", "expected the fields"),
        ("epsilon_cap: 8", "expected the fields"),
        ("{", "cannot be read"),
        (
            "{epsilon_cap: -1, delta: 1e-5, max_clip_norm: 1, min_noise_multiplier: 1, max_sample_rate: 1}",
            "policy.epsilon_cap",
        ),
        (
            "{epsilon_cap: 1, delta: yes, max_clip_norm: 1, min_noise_multiplier: 1, max_sample_rate: 1}",
            "policy.delta",
        ),
    ],
)
def test_a_policy_that_is_damaged_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=named):
        DevicePolicy.load(path)


def test_a_missing_policy_is_an_error_and_not_a_default(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        DevicePolicy.load(tmp_path / "policy.yaml")
