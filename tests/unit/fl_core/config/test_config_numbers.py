"""Numbers that are none are refused in the user's field; text that YAML takes for a number stays as it was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.config import load_config, to_yaml
from fl_core.errors import ConfigError

RATE, CLIP = "clients.optimizer.learning_rate", "privacy.clip_norm"
GOOD = "run: {name: q}\ndata: {name: smartwatch}\nmodel: {name: imu_cnn}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["clients.optimizer.momentum=.inf"], "clients.optimizer.momentum: expected a finite number, got .inf"),
        (["clients.optimizer.learning_rate=.inf"], f"{RATE}: expected a finite number, got .inf"),
        (["clients.optimizer.learning_rate=true"], "clients.optimizer.learning_rate: expected a number, got true"),
        (["clients.batch_size=true"], "clients.batch_size: expected a number, got true"),
        (["run.rounds=true"], "run.rounds: expected a number, got true"),
        (["run.rounds=2.5"], "run.rounds: expected a whole number, got 2.5"),
        (["run.seed=true"], "run.seed: expected a number, got true"),
        (["run.seed=99999999999999999999"], "run.seed: expected 0 to below 2**63, got 99999999999999999999"),
        (["round.quorum=true"], "round.quorum: expected a number, got true"),
        (["clients.optimizer.learning_rate=1e39"], f"{RATE}: expected above 0, at most 1e+38, got 1e+39"),
        (["round.deadline_s=1e300"], "round.deadline_s: expected above 0, at most 1e+07, got 1e+300"),
        (["privacy.epsilon=true"], "privacy.epsilon: expected a number, got true"),
        (["privacy.epsilon=8", "privacy.clip_norm=.inf"], "privacy.clip_norm: expected a finite number, got .inf"),
        (["privacy.epsilon=8", "privacy.clip_norm=1e30"], f"{CLIP}: expected above 0, at most 1e+06, got 1e+30"),
        (["clients.sample_rate=1e-310"], "clients.sample_rate: expected 1e-12 to 1, got 1e-310"),
        (["quant.client_bits.watch=true"], "quant.client_bits.watch: expected a number, got true"),
        (["simulation.clients.watch=.nan"], "simulation.clients.watch: expected a finite number, got .nan"),
        (["strategy.args={inner: {args: [.nan]}}"], "strategy.args.inner.args.0: expected a finite number, got .nan"),
        (["task=null"], "task: expected a section of keys and values, got null"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_once_in_its_field_and_in_the_users_words(
    config: Path, overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, overrides)
    assert caught.value.problems == (says,)


@pytest.mark.parametrize("name", ["007", "1e3", "on", "0x1f", "1_000", "1.0"])
def test_a_name_stays_as_it_was_typed_whatever_yaml_would_make_of_it(config: Path, tmp_path: Path, name: str) -> None:
    loaded = load_config(config, [f"run.name={name}"])
    assert loaded.run.name == name
    (tmp_path / "resolved.yaml").write_text(to_yaml(loaded))
    assert load_config(tmp_path / "resolved.yaml") == loaded


def test_a_name_in_a_file_that_yaml_reads_as_a_number_says_how_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GOOD.replace("name: q", "name: 1e3"))
    with pytest.raises(ConfigError, match=r"run\.name: expected text, got 1000\.0, which is a number in YAML; put it"):
        load_config(tmp_path / "config.yaml")
