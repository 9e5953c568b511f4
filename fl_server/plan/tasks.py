"""What clients are asked: the plan of each one's task, its terms of privacy, and what its update must bring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fl_core import __version__
from fl_core.config.schema import ClientsSection, PrivacySection
from fl_core.errors import PrivacyError
from fl_core.privacy.accountant import noise_multiplier
from fl_core.rng import derive_seed
from fl_core.types import ClientInfo, DpTerms, RoundPlan, Tensors
from fl_server.plan.setup import Setup
from strategies.given_back import check_groups

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest real value by activation name."""


@dataclass(frozen=True)
class ExpectedUpdate:
    """What every update of a run must bring, beside the parts that its plan asks for by name."""

    parts: Mapping[str, Tensors]
    """The strategy's parts, with tensors of the right shapes; what stays at home is in none."""
    activations: tuple[str, ...]
    """Those whose running ranges come, where the plan asks for ranges."""


def expected_update(setup: Setup, parameters: Tensors, running: tuple[str, ...]) -> ExpectedUpdate:
    """What updates must bring, for a net with these trainable ``parameters``, in the order of its layers.

    ``running`` names the activations whose ranges its clients measure as they train.
    """
    with setup.running_strategy.called():
        home = setup.strategy.stays_home(list(parameters))
        parts = setup.strategy.parts({name: parameters[name] for name in sorted(parameters) if name not in home})
        check_groups("parts", parts)
    return ExpectedUpdate(parts, running)


def plan_of(
    setup: Setup,
    info: ClientInfo,
    round: int,
    base_version: int,
    ranges: Ranges | None = None,
    sent: str = "",
    accepted: str | None = None,
) -> RoundPlan:
    """What the client of ``info`` is asked to do in ``round``, from the model of ``base_version``.

    The same question has the same task_id.

    Args:
        setup: the run.
        info: what the client said of itself.
        round: counted from 1; 0 before the first.
        base_version: the version of the model that travels with the plan.
        ranges: activation ranges as measured so far.
        sent: the digest of all tensors that travel with the plan.
        accepted: the task_id of this client's last update that was summed.
    """
    run, spec = setup.config.run, setup.spec
    trained = replace(spec, ranges=ranges or {}).at_width(spec.quant.width_of(info.client_id))
    return RoundPlan(
        task_id=f"{derive_seed('task', setup.digest, round, base_version, info.client_id, sent):016x}",
        run=run.name,
        round=round,
        client_id=info.client_id,
        base_version=base_version,
        seed=run.seed,
        rounds=run.rounds,
        training=trained.to_plain(),
        dp=dp_terms(setup, info.size_class),
        accepted=accepted,
        run_id=setup.run_id,
        asks=(*setup.selection.asks, *spec.quant.asks),
        code_version=__version__,
    )


def histogram_plan(setup: Setup, info: ClientInfo, activations: int) -> RoundPlan:
    """The plan of round 0: one Gaussian release of counts over so many activations, paid with a share of epsilon.

    The share is ``privacy.ranges_share``.

    Raises:
        PrivacyError: the run has no privacy section.
    """
    privacy = setup.config.privacy
    if privacy is None:
        raise PrivacyError("quant.ranges: dp_histogram needs a privacy section")
    terms = DpTerms(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        clip_norm=math.sqrt(max(activations, 1)),
        noise_multiplier=ranges_noise(privacy),
        sample_rate=1.0,
        steps=1,
        normaliser=1.0,
        accountant=privacy.accountant,
    )
    return replace(plan_of(setup, info, 0, 0), dp=terms)


def ranges_noise(privacy: PrivacySection) -> float:
    """The noise multiplier of ranges that are measured under DP.

    Raises:
        PrivacyError: no noise is enough for their share of epsilon.
    """
    return noise_multiplier(privacy.epsilon * privacy.ranges_share, privacy.delta, 1.0, 1, privacy.accountant)


def dp_terms(setup: Setup, size_class: int) -> DpTerms | None:
    """The terms of private training for a client of that size class; None without privacy."""
    privacy = setup.config.privacy
    if privacy is None:
        return None
    rate, steps = sampling(setup.config.clients, size_class)
    share = 1 - privacy.ranges_share if setup.config.quant.ranges == "dp_histogram" else 1.0
    sigma = noise_multiplier(
        privacy.epsilon * share, privacy.delta, rate, steps * setup.config.run.rounds, privacy.accountant
    )
    return DpTerms(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        clip_norm=privacy.clip_norm,
        noise_multiplier=sigma,
        sample_rate=rate,
        steps=steps,
        normaliser=rate * size_class,
        accountant=privacy.accountant,
    )


def sampling(clients: ClientsSection, size_class: int) -> tuple[float, int]:
    """Sample rate and steps of a round under DP, from public numbers alone."""
    rate = clients.sample_rate or min(1.0, clients.batch_size / size_class)
    return rate, clients.local_steps or clients.local_epochs * max(1, round(1 / rate))
