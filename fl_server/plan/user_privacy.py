"""User-level privacy in a run: the server's own ledger, its noise, who is asked, and what the events say of it.

The ledger is the devices' ledger over one data set, all clients of the run together, beside the checkpoint. A round is
reserved before its noise is drawn, and its release is kept with the settled entry before anybody sees it. A round that
is done again after a crash gives that same release, whoever answers this time. A crash between the two has released
nothing: with secret noise the reservation counts all the same, in a simulation its seed gives the same noise again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fl_core.errors import LedgerError
from fl_core.privacy.events import PrivacyEvent
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.ledger_head import LedgerHead, refusal
from fl_core.privacy.policy import DevicePolicy
from fl_core.rng import NoiseSource, SecretNoise, SeededNoise
from fl_core.tensorfile import decode_tensors, encode_tensors
from fl_core.types import DpTerms, Tensors
from fl_server.plan.setup import Setup
from strategies.central.mechanism import Make
from strategies.central.user_level import UserLevel

LEDGER_FILE = "server-ledger.sqlite"
START_ANEW = "or start the run anew with --overwrite"
"""What there is to do where the newest ledger of a run is lost: what its models gave away cannot be added up."""
CLIENTS = "clients"
"""The one data set of the server's ledger."""


@dataclass(frozen=True)
class LedgerMechanism:
    """A mechanism that pays before it draws and never releases a round twice."""

    ledger: Ledger
    strategy: UserLevel
    noise_multiplier: float
    shapes: Mapping[str, Tensors]
    noise: Callable[[int], NoiseSource]
    """The source of a round."""

    def release(self, round: int, events: tuple[PrivacyEvent, ...], make: Make) -> Tensors:
        """The noisy tensors of a round, paid for first; drawn once, however often the round is done again."""
        task = f"round {round}"
        stored = self.ledger.reply(CLIENTS, task)
        if stored is None:
            if events:
                terms, policy = self._terms(events), self._policy()
                self.ledger.reserve(CLIENTS, task, terms, policy, events)
            stored = encode_tensors(make(self.noise(round)))
            keep = self.ledger.settle if events else self.ledger.store
            keep(CLIENTS, task, stored, None)
        return decode_tensors(stored)

    def spent(self) -> float:
        """Epsilon of all that was reserved so far."""
        return self.ledger.spent(CLIENTS, self.strategy.delta, self.strategy.accountant)

    def _terms(self, events: Sequence[PrivacyEvent]) -> DpTerms:
        strategy = self.strategy
        return DpTerms(
            epsilon=strategy.epsilon,
            delta=strategy.delta,
            clip_norm=strategy.clip_norm,
            noise_multiplier=self.noise_multiplier,
            sample_rate=events[0].sample_rate,
            steps=sum(event.steps for event in events),
            normaliser=strategy.expected_clients,
            accountant=strategy.accountant,
        )

    def _policy(self) -> DevicePolicy:
        """The server is its own owner: the config is the policy."""
        strategy = self.strategy
        return DevicePolicy(strategy.epsilon, strategy.delta, strategy.clip_norm, self.noise_multiplier, 1.0)


def with_server_noise(
    setup: Setup, run_dir: Path, parts: Mapping[str, Tensors], head: LedgerHead | None = None
) -> Setup:
    """The setup with a strategy that can finish rounds; itself where it adds no noise for whole clients.

    Args:
        setup: the run.
        run_dir: its folder, where the server's ledger lies.
        parts: the strategy's parts of an update, with tensors of the right shapes.
        head: how far the ledger had come at the checkpoint that the run goes on from.

    Raises:
        LedgerError: the server's ledger is missing, older than the checkpoint, damaged, or another run's.
        PrivacyError: no noise is enough for the budget.
    """
    strategy = setup.strategy
    if not isinstance(strategy, UserLevel):
        return setup
    path = run_dir / LEDGER_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if head is not None and not path.exists():
        raise LedgerError(refusal(path, CLIENTS, f"a file with {head}", "no file", START_ANEW))
    ledger = Ledger(path, simulated=setup.simulated)
    path.chmod(0o600)
    ledger.enrol(CLIENTS, strategy.expected_clients)
    if head is not None:
        ledger.check_covers(CLIENTS, head, START_ANEW)
    mechanism = LedgerMechanism(
        ledger=ledger,
        strategy=strategy,
        noise_multiplier=strategy.calibrate(setup.config.run.rounds),
        shapes=parts,
        noise=lambda round: server_noise(setup, round),
    )
    return replace(setup, strategy=strategy.bound_to(mechanism))


def server_noise(setup: Setup, round: int) -> NoiseSource:
    """What the server draws a round's clients and noise from: the system's entropy, or named seeds in a simulation."""
    run = setup.config.run
    return SeededNoise(run.seed, run.name, round, "server") if setup.simulated else SecretNoise()


def central_cohort(setup: Setup, clients: Sequence[str], round: int) -> list[str] | None:
    """Who is asked where the strategy's accounting decides that; None where it does not."""
    strategy = setup.strategy
    if not isinstance(strategy, UserLevel):
        return None
    mask = strategy.takes_part(clients, round, server_noise(setup, round))
    return [client for client, taken in zip(clients, mask.tolist(), strict=True) if taken]


def user_epsilon(setup: Setup) -> float | None:
    """What one client of this run has spent at the server so far; None without noise for whole clients."""
    mechanism = setup.strategy.mechanism if isinstance(setup.strategy, UserLevel) else None
    return mechanism.spent() if isinstance(mechanism, LedgerMechanism) else None


def user_head(setup: Setup) -> LedgerHead | None:
    """How far the server's own ledger has come; None without noise for whole clients."""
    mechanism = setup.strategy.mechanism if isinstance(setup.strategy, UserLevel) else None
    return mechanism.ledger.head(CLIENTS) if isinstance(mechanism, LedgerMechanism) else None


def describe_user_privacy(setup: Setup) -> dict[str, Any] | None:
    """What the events say of the guarantee for whole clients; None without one."""
    strategy = setup.strategy
    if not isinstance(strategy, UserLevel):
        return None
    sigma = strategy.calibrate(setup.config.run.rounds)
    return {
        "unit": "client",
        "epsilon": strategy.epsilon,
        "delta": strategy.delta,
        "clip_norm": strategy.clip_norm,
        "accountant": strategy.accountant,
        "noise_multiplier": sigma,
        "expected_clients": strategy.expected_clients,
        **strategy.describe(),
        "simulated": setup.simulated,
    }
