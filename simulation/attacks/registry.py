"""The table of attacks, and who attacks in a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fl_core.config import Config
from fl_core.config.schema import AttackSection
from fl_core.data.federation import ClientData, Federation
from fl_core.errors import ConfigError
from fl_core.registry import find_maker
from fl_server.plan.found_in_attack import liars
from simulation.attacks.base import Attack
from simulation.attacks.forgeries import Gaussian, InnerProduct, LittleIsEnough, MinMax, NotANumber, SignFlip
from simulation.attacks.label_flip import LabelFlip

ATTACKS: Mapping[str, Callable[..., Attack]] = {
    "alie": LittleIsEnough,
    "gaussian": Gaussian,
    "ipm": InnerProduct,
    "label_flip": LabelFlip,
    "min_max": MinMax,
    "nan": NotANumber,
    "sign_flip": SignFlip,
}


def build_attack(section: AttackSection) -> Attack:
    """The attack that a config names, made with its args.

    Raises:
        ConfigError: there is no attack of that name, or it refuses its args.
    """
    attack: Attack = find_maker("simulation.attack", section.name, None, ATTACKS)(section.args)
    return attack


def attackers(section: AttackSection, client_ids: Iterable[str]) -> frozenset[str]:
    """Who attacks; somebody must be left to be honest.

    Raises:
        ConfigError: nobody would be left to be honest.
    """
    known = list(client_ids)
    if section.clients >= len(known):
        raise ConfigError(
            f"simulation.attack.clients: expected fewer than the {len(known)} clients, got {section.clients}"
        )
    return frozenset(liars(section, known))


def poisoned(config: Config, federation: Federation) -> Mapping[str, ClientData]:
    """The clients' data as they train on it: an attacker's own may be spoilt, everybody else's is as it was.

    Raises:
        ConfigError: the attack or the number of attackers is wrong, or cannot be done with this data.
    """
    section = config.simulation.attack
    if section is None:
        return federation.clients
    attack, hostile = build_attack(section), attackers(section, federation.clients)
    return {
        name: ClientData(attack.poison(data.train, len(federation.labels)), data.test) if name in hostile else data
        for name, data in federation.clients.items()
    }
