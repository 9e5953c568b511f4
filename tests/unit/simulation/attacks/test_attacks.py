"""Attackers of a simulation: they do what their papers say, tune themselves, and travel through real admission."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_core.config import load_config
from fl_core.data.federation import Examples
from fl_core.errors import ConfigError
from fl_core.runlog import read_events
from fl_core.types import ClientUpdate, Part
from fl_server.rounds.checkpoint import load_checkpoint
from simulation.attacks.base import AttackerView, most_harmful
from simulation.attacks.colluders import Colluders
from simulation.attacks.forgeries import MinMax
from simulation.attacks.registry import ATTACKS, attackers
from simulation.run import run
from strategies.registry import build_strategy

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
HONEST = np.random.default_rng(1).normal(loc=1.0, size=(8, 5))


def scene(damage=lambda forged: 0.0) -> AttackerView:
    return AttackerView(HONEST, np.ones((2, 5)), damage, np.random.default_rng(0))


def update(client: int, row) -> ClientUpdate:
    return ClientUpdate(f"t{client}", f"c{client}", 0, {"delta": Part({"w": np.asarray(row, np.float32)})}, 10, 1)


def crew(attack: str, strategy: dict, max_norm: float = 1e3) -> Colluders:
    defence = build_strategy(strategy["name"], None, strategy.get("args", {}))
    state = defence.init({"w": np.zeros(5, np.float32)})
    return Colluders(ATTACKS[attack](), frozenset({"c8", "c9"}), defence, lambda: state, max_norm, 1)


def forged(attack: str, strategy: dict, max_norm: float = 1e3) -> np.ndarray:
    honest = [update(n, row) for n, row in enumerate(HONEST)]
    own = [update(8, np.ones(5)), update(9, 2 * np.ones(5))]
    sent = crew(attack, strategy, max_norm).forge(honest, own)
    return np.stack([each.parts["delta"].tensors["w"] for each in sent])


def test_forgeries_of_a_given_strength_are_their_papers():
    mean, deviation = HONEST.mean(axis=0), HONEST.std(axis=0, ddof=1)
    np.testing.assert_allclose(ATTACKS["sign_flip"](strength=3.0).forge(scene()), np.full((2, 5), -3.0))
    np.testing.assert_allclose(ATTACKS["ipm"](strength=0.5).forge(scene())[1], -0.5 * mean)
    np.testing.assert_allclose(ATTACKS["alie"](strength=1.5).forge(scene())[0], mean - 1.5 * deviation)
    assert np.isnan(ATTACKS["nan"]().forge(scene())).all()
    noise = ATTACKS["gaussian"](strength=2.0).forge(scene())
    assert np.abs(noise[0] - noise[1]).max() > 0


def test_min_max_reaches_as_far_as_honest_updates_lie_apart_and_no_farther():
    got = MinMax().forge(scene())[0]
    widest = max(np.linalg.norm(a - b) for a in HONEST for b in HONEST)
    assert np.linalg.norm(HONEST - got, axis=1).max() == pytest.approx(widest, rel=1e-9)


def test_label_flip_reverses_the_classes_and_refuses_what_has_none():
    flip = ATTACKS["label_flip"]()
    x = np.zeros((3, 2), np.float32)
    assert flip.poison(Examples(x, np.array([0, 1, 9])), 10).y.tolist() == [9, 8, 0]
    with pytest.raises(ConfigError, match="expected classes"):
        flip.poison(Examples(x, np.zeros(3, np.float32)), 0)


def test_tuning_finds_a_peak_between_the_rungs():
    assert most_harmful(lambda strength: -abs(np.log(strength / 3.0))) == pytest.approx(3.0, rel=0.1)


def test_against_a_mean_the_lie_is_as_large_as_admission_lets_through():
    sent = forged("ipm", {"name": "fedavg"}, max_norm=50.0)
    assert 25.0 < np.linalg.norm(sent[0]) <= 50.0


def test_against_a_robust_rule_the_lie_is_tuned_to_hide():
    open_lie = np.linalg.norm(forged("alie", {"name": "fedavg"})[0])
    hidden = np.linalg.norm(forged("alie", {"name": "multikrum", "args": {"byzantine": 2}})[0])
    assert hidden < open_lie / 5


def test_a_forgery_is_the_same_every_time():
    for attack in sorted(ATTACKS):
        np.testing.assert_array_equal(forged(attack, {"name": "median"}), forged(attack, {"name": "median"}))


def test_wrong_attacks_are_refused(tmp_path):
    for overrides, says in (
        (["simulation.attack={name: alee, clients: 1}"], "did you mean 'alie'"),
        (["simulation.attack={name: alie, clients: 3}"], "fewer than the 3"),
        (["simulation.attack={name: alie, args: {strength: -1.0}}"], "strength"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(config("refused", overrides), out=tmp_path)
    assert not list(tmp_path.iterdir())
    assert attackers(load_section(), ["c", "a", "b"]) == {"a", "b"}


def load_section():
    return config("x", ["simulation.attack={name: alie, clients: 2}"]).simulation.attack


def config(name: str, overrides: list[str]):
    tiny = ["data.args.test_examples=4500", "data.partition={kind: iid, clients: 3}", "model={name: image_cnn}",
            "model.args.width=4", "run.rounds=2", "export.every=9", "clients.batch_size=80", "privacy=null",
            "clients.sample_rate=null", "clients.optimizer.learning_rate=0.05", "run.companion=null"]  # fmt: skip
    return load_config(CONFIGS / "mnist.yaml", [f"run.name={name}", *tiny, *overrides])


@pytest.mark.slow
def test_an_attacked_run_is_the_same_for_any_number_of_workers(tmp_path):
    attack = ["simulation.attack={name: alie}", "strategy={name: centered_clipping}"]
    alone = run(config("one", attack), out=tmp_path / "a")
    together = run(config("one", attack), out=tmp_path / "b", workers=2)
    states = [load_checkpoint(folder / "checkpoint").state for folder in (alone, together)]
    for name, tensor in states[0].model.items():
        np.testing.assert_array_equal(tensor, states[1].model[name])


def test_nan_is_rejected_on_its_way_like_any_update(tmp_path):
    events = list(read_events(run(config("nan", ["simulation.attack={name: nan}"]), out=tmp_path)))
    rejected = [event for event in events if event["kind"] == "client_rejected"]
    assert [event["round"] for event in rejected] == [1, 2]
    assert all("NaN" in event["reason"] for event in rejected)
    assert [event["accepted"] for event in events if event["kind"] == "round_finished"] == [2, 2]
