"""Data sets of the Hugging Face hub, through ``flwr-datasets`` (the extra ``hub``; arXiv 2007.14390).

The extra is imported only when a hub data set is asked for. What comes from the hub is a ``datasets.Dataset``;
``from_datasets`` turns one into a federation, wherever it came from, so the same code serves a local one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fl_core.data.federation import ClientData, Examples, Federation
from fl_core.errors import ConfigError, DataError
from fl_core.types import Array

if TYPE_CHECKING:
    from datasets import Dataset

_INSTALL = "data.name hub: expected the extra hub (pip install 'stonecrop[hub]'), got no flwr-datasets"


def hub(
    dataset: str,
    input_column: str,
    target_column: str,
    client_column: str | None = None,
    train_split: str = "train",
    test_split: str | None = "test",
    scale: float = 255.0,
    input_range: tuple[float, float] = (0.0, 1.0),
    channels_last: bool = True,
    subset: str | None = None,
) -> Federation:
    """Fetch a data set from the hub, e.g. ``uoft-cs/cifar10`` with columns ``img`` and ``label``.

    Args:
        dataset: its name on the hub.
        input_column: column of images, or of arrays of numbers.
        target_column: column of class numbers, or of numbers.
        client_column: column that names the client (a speaker, a writer); without it the result is one pool.
        train_split: split that the clients hold.
        test_split: split that is the server's test set, or None.
        scale: public constant that inputs are divided by.
        input_range: public bounds that the divided inputs are clipped to.
        channels_last: whether inputs are [height, width, channels], to be moved to [channels, height, width].
        subset: configuration of the data set, where it has several.

    Raises:
        ConfigError: the extra is not installed.
        DataError: a column or split is missing, or inputs differ in shape.
    """
    try:
        from flwr_datasets import FederatedDataset
        from flwr_datasets.partitioner import IidPartitioner
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    # One partition is the whole split: dealing a pool is the business of data.partition, as for every data set.
    source = FederatedDataset(dataset=dataset, subset=subset, partitioners={train_split: IidPartitioner(1)})
    train = source.load_partition(0, train_split)
    test = source.load_split(test_split) if test_split else None
    return from_datasets(train, test, input_column, target_column, client_column, scale, input_range, channels_last)


def from_datasets(
    train: Dataset,
    test: Dataset | None,
    input_column: str,
    target_column: str,
    client_column: str | None = None,
    scale: float = 255.0,
    input_range: tuple[float, float] = (0.0, 1.0),
    channels_last: bool = True,
) -> Federation:
    """A federation of ``datasets.Dataset`` objects; arguments as those of ``hub``.

    Raises:
        ConfigError: the extra is not installed.
        DataError: a column is missing, or inputs differ in shape.
    """

    def examples(part: Dataset, owner: str) -> Examples:
        return _examples(part, owner, input_column, target_column, scale, input_range, channels_last)

    for column in (input_column, target_column, *([client_column] if client_column else [])):
        if column not in train.column_names:
            raise DataError(f"data.args: expected a column of {train.column_names}, got {column!r}")
    if client_column is None:
        clients = {"pool": ClientData(examples(train, "train"))}
    else:
        clients = {name: ClientData(examples(part, name)) for name, part in _by_client(train, client_column).items()}
    return Federation(
        clients=clients,
        test=examples(test, "test") if test is not None else None,
        labels=tuple(getattr(train.features[target_column], "names", None) or ()),
        input_range=input_range,
    )


def _by_client(train: Dataset, column: str) -> dict[str, Dataset]:
    try:
        from flwr_datasets.partitioner import NaturalIdPartitioner
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    partitioner = NaturalIdPartitioner(partition_by=column)
    partitioner.dataset = train
    parts = [partitioner.load_partition(number) for number in range(partitioner.num_partitions)]
    return {f"{column}-{part[0][column]}": part for part in parts}


def _examples(
    part: Dataset, owner: str, x: str, y: str, scale: float, bounds: tuple[float, float], channels_last: bool
) -> Examples:
    inputs: list[Array] = [np.asarray(value, np.float32) for value in part[x]]
    shapes = {value.shape for value in inputs}
    if len(shapes) != 1:
        raise DataError(f"data {owner}: expected inputs of one shape in column {x!r}, got {sorted(shapes)[:4]}")
    stacked = np.clip(np.stack(inputs) / np.float32(scale), *bounds).astype(np.float32)
    if stacked.ndim == 3:  # grey images: one channel
        stacked = stacked[:, None]
    elif channels_last and stacked.ndim == 4:
        stacked = np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
    return Examples(stacked, np.asarray(part[y]))
