"""Where a run's data comes from: the built-in data sets by name, or a user's own factory.

A factory is any callable that takes the config's ``data.args`` by keyword and makes a ``Federation``. One that
comes with its own clients is used as it is; a pool is dealt to clients by ``data.partition``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.data.hub import hub
from fl_core.data.mnist import mnist
from fl_core.data.partition import PartitionSpec, hold_out, split
from fl_core.data.smartwatch import smartwatch
from fl_core.errors import ConfigError, DataError
from fl_core.own_code import own_code
from fl_core.registry import find_maker
from fl_core.rng import derive_seed, generator
from fl_core.seeding import seeded

DATASETS: Mapping[str, Callable[..., Federation]] = {
    "smartwatch": smartwatch,
    "mnist": mnist,
    "hub": hub,
}


def build_federation(
    name: str | None, factory: str | None, args: Mapping[str, Any], partition: PartitionSpec, seed: int
) -> Federation:
    """The federation of a run, with everything in it checked and its arrays as torch takes them.

    A factory with a parameter ``seed`` gets the run's seed, unless ``args`` has one. What it draws from the global
    generators of torch, numpy and Python depends on the run's seed as well.

    Args:
        name: a key of ``DATASETS``, or None.
        factory: ``package.module:callable`` where there is no name.
        args: keyword arguments of the factory.
        partition: how a pool is dealt; ``natural`` keeps the clients that the factory made.
        seed: names every random draw that is made here.

    Raises:
        ConfigError: there is no such data set or factory, or it does not take these arguments.
        DataError: the factory failed, gave something else than a whole Federation, or one that cannot be dealt.
    """
    maker = find_maker("data", name, factory, DATASETS)
    with seeded(derive_seed(seed, "data", "factory")):
        federation = maker({"seed": seed, **args} if maker.takes("seed") else args, failure=DataError)
        if not isinstance(federation, Federation):
            raise DataError(f"{maker.field} {maker.name}: expected a Federation, got {type(federation).__name__}")
        if maker.own and isinstance(federation.clients, Mapping):
            federation = replace(federation, clients=_gathered(federation.clients, f"{maker.field} {maker.name}"))
    federation = federation.check()
    if partition.kind == "natural" or not federation.clients:  # a server may hold nobody's examples
        if tuple(federation.clients) == ("pool",):
            raise ConfigError(f"data.partition.kind: {maker.name} is one pool; expected iid, dirichlet or shards")
        return federation
    return deal(federation, partition, generator(seed, "data", "partition"))


def _gathered(clients: Mapping[str, ClientData], factory: str) -> dict[str, ClientData]:
    """All clients of a user's own mapping, which may load each of them only when it is asked for it.

    Raises:
        DataError: the mapping fails; names the factory and the client, with the place in the user's code.
    """
    with own_code(f"{factory}: clients", DataError):
        names = list(clients)
    gathered = {}
    for name in names:
        with own_code(f"{factory}: client {name}", DataError):
            gathered[name] = clients[name]
    return gathered


def deal(federation: Federation, spec: PartitionSpec, rng: np.random.Generator) -> Federation:
    """Put all training examples together and deal them to clients "client-00", "client-01" and so on.

    Raises:
        DataError: clients have test parts of their own, which would end up with others' training examples.
    """
    if any(client.test is not None for client in federation.clients.values()):
        raise DataError(
            f"data.partition.kind: expected natural, got {spec.kind}: these clients hold out parts of their own, "
            "which would not stay apart from training examples that were dealt anew"
        )
    trains = [client.train for client in federation.clients.values()]
    pool = Examples(np.concatenate([part.x for part in trains]), np.concatenate([part.y for part in trains]))
    clients = {}
    for number, rows in enumerate(split(pool.y, spec, rng)):
        train, test = hold_out(rows, spec.client_test, rng)
        held = pool.take(test) if len(test) else None
        clients[f"client-{number:02d}"] = ClientData(pool.take(train), held)
    return replace(federation, clients=clients)
