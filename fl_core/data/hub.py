"""Data sets of the Hugging Face hub, through ``flwr-datasets`` (the extra ``hub``; arXiv 2007.14390).

The extra is imported only when a hub data set is asked for. What comes from the hub is a ``datasets.Dataset``;
``from_datasets`` turns one into a federation, wherever it came from, so the same code serves a local one.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_core.client_id import plain_client_id
from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import ConfigError, DataError
from fl_core.types import Array

if TYPE_CHECKING:
    from datasets import Dataset

_INSTALL = "data.name hub: expected the extra hub (pip install 'stonecrop[hub]'), got no flwr-datasets"


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set are what, and how its inputs are made ready.

    Args:
        input_column: column of images, or of arrays of numbers.
        target_column: column of class numbers, or of numbers.
        client_column: column that names the client (a speaker, a writer); without it the result is one pool.
        scale: public constant that inputs are divided by.
        input_range: public bounds that the divided inputs are clipped to.
        channels_last: whether inputs are [height, width, channels], to be moved to [channels, height, width].
    """

    input_column: str
    target_column: str
    client_column: str | None = None
    scale: float = 255.0
    input_range: tuple[float, float] = (0.0, 1.0)
    channels_last: bool = True


def hub(
    dataset: str,
    train_split: str = "train",
    test_split: str | None = "test",
    subset: str | None = None,
    **columns: Any,
) -> Federation:
    """Fetch a data set from the hub, e.g. ``uoft-cs/cifar10`` with columns ``img`` and ``label``.

    Args:
        dataset: its name on the hub.
        train_split: split that the clients hold.
        test_split: split that is the server's test set, or None.
        subset: configuration of the data set, where it has several.
        columns: fields of ``Columns`` by name.

    Raises:
        ConfigError: the extra is not installed, or ``columns`` are not those of ``Columns``.
        DataError: a column or split is missing, or inputs differ in shape.
    """
    signature = inspect.signature(Columns)
    try:
        signature.bind(**columns)
    except TypeError as error:
        raise ConfigError(f"data.args: data.name hub, columns {signature}: {error}") from error
    try:
        from flwr_datasets import FederatedDataset
        from flwr_datasets.partitioner import IidPartitioner
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    # One partition is the whole split: dealing a pool is the business of data.partition, as for every data set.
    source = FederatedDataset(dataset=dataset, subset=subset, partitioners={train_split: IidPartitioner(1)})
    train = source.load_partition(0, train_split)
    test = source.load_split(test_split) if test_split else None
    return from_datasets(train, test, Columns(**columns))


def from_datasets(train: Dataset, test: Dataset | None, columns: Columns) -> Federation:
    """A federation of ``datasets.Dataset`` objects: what the clients hold, and the server's test set or None.

    Raises:
        ConfigError: the extra is not installed.
        DataError: a column is missing, or inputs differ in shape.
    """
    client_column = columns.client_column
    for column in (columns.input_column, columns.target_column, *([client_column] if client_column else [])):
        if column not in train.column_names:
            raise DataError(f"data.args: expected a column of {train.column_names}, got {column!r}")
    if client_column is None:
        clients = {"pool": ClientData(_examples(train, "train", columns))}
    else:
        parts = _by_client(train, client_column)
        clients = {name: ClientData(_examples(part, name, columns)) for name, part in parts.items()}
    return Federation(
        clients=clients,
        test=_examples(test, "test", columns) if test is not None else None,
        labels=tuple(getattr(train.features[columns.target_column], "names", None) or ()),
        input_range=columns.input_range,
    )


def _by_client(train: Dataset, column: str) -> dict[str, Dataset]:
    try:
        from flwr_datasets.partitioner import NaturalIdPartitioner
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    partitioner = NaturalIdPartitioner(partition_by=column)
    partitioner.dataset = train
    parts = [partitioner.load_partition(number) for number in range(partitioner.num_partitions)]
    return dict(zip(client_ids([f"{column}-{part[0][column]}" for part in parts]), parts, strict=True))


def client_ids(names: Sequence[str]) -> list[str]:
    """A client_id for each name of a client column: the name itself where that can be one, else with its number."""
    seen = Counter(name.casefold() for name in names)
    alone = {name for name in names if seen[name.casefold()] == 1 and plain_client_id(name) == name}
    return [name if name in alone else plain_client_id(f"client-{number}-{name}") for number, name in enumerate(names)]


def _examples(part: Dataset, owner: str, columns: Columns) -> Examples:
    inputs: list[Array] = [np.asarray(value, np.float32) for value in part[columns.input_column]]
    shapes = {value.shape for value in inputs}
    if len(shapes) != 1:
        raise DataError(
            f"data {owner}: expected inputs of one shape in column {columns.input_column!r}, got {sorted(shapes)[:4]}"
        )
    stacked = np.clip(np.stack(inputs) / np.float32(columns.scale), *columns.input_range).astype(np.float32)
    if stacked.ndim == 3:  # grey images: one channel
        stacked = stacked[:, None]
    elif columns.channels_last and stacked.ndim == 4:
        stacked = np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
    return Examples(stacked, np.asarray(part[columns.target_column]))
