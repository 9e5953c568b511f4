"""Terms of privacy under which no round can do any good are refused before anything starts, by the field's name."""

from __future__ import annotations

import pytest
import toy

from fl_core.errors import ConfigError
from simulation.preflight import preflight

PRIVATE: dict[str, object] = {"privacy": {"epsilon": 8.0}}


def test_a_share_for_ranges_that_no_noise_can_keep_is_refused(tmp_path):
    terms: dict[str, object] = {"privacy": {"epsilon": 8.0, "ranges_share": 1e-9}}
    with pytest.raises(ConfigError, match=r"privacy\.ranges_share: expected .* got 1e-09"):
        preflight(toy.config(tmp_path, quant={"ranges": "dp_histogram"}, **terms))
    preflight(toy.config(tmp_path, **terms))  # nothing is measured, so nothing is paid


@pytest.mark.parametrize("rate", [1e-12, 1e-9])
def test_a_rate_at_which_no_example_is_ever_drawn_is_refused(tmp_path, rate):
    with pytest.raises(ConfigError, match=r"clients\.sample_rate: expected at least 0\.\d+, .* got 1e-"):
        preflight(toy.config(tmp_path, clients={"sample_rate": rate, "local_steps": 2}, **PRIVATE))


def test_a_rate_at_which_a_step_draws_less_than_one_example_is_fine(tmp_path):
    preflight(toy.config(tmp_path, clients={"sample_rate": 0.01, "local_steps": 8}, **PRIVATE))
