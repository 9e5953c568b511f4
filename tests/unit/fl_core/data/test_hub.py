"""Hub data sets: the real loading code, on data sets that lie on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_core.client_id import client_id_problem
from fl_core.data.datasets import build_federation
from fl_core.data.hub import Columns, client_ids, from_datasets, hub
from fl_core.data.partition import PartitionSpec
from fl_core.errors import ConfigError, DataError


def columns(count: int = 12) -> dict[str, list[object]]:
    draw = np.random.default_rng(0)
    return {
        "img": draw.integers(0, 256, (count, 4, 5, 3)).tolist(),
        "label": [number % 2 for number in range(count)],
        "speaker": [f"s{number % 3}" for number in range(count)],
    }


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "flwr_datasets", None)
    with pytest.raises(ConfigError, match=r"stonecrop\[hub\]"):
        hub("somebody/something", input_column="img", target_column="label")


@pytest.mark.filterwarnings("default")
class TestWithTheExtra:
    """Needs flwr-datasets."""

    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        self.datasets = pytest.importorskip("datasets")
        pytest.importorskip("flwr_datasets")

    def test_a_client_is_what_one_column_says(self) -> None:
        train = self.datasets.Dataset.from_dict(columns())
        federation = from_datasets(train, train.select(range(2)), Columns("img", "label", "speaker")).check()
        assert sorted(federation.clients) == ["speaker-s0", "speaker-s1", "speaker-s2"]
        assert federation.input_shape == (3, 4, 5)
        assert sum(len(client.train) for client in federation.clients.values()) == 12
        assert len(federation.test) == 2
        expected = np.asarray(columns()["img"][0], np.float32).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(federation.test.x[0], expected)

    def test_hub_reads_a_data_set_folder_and_a_pool_is_dealt(self, tmp_path: Path) -> None:
        for split, count in (("train", 12), ("test", 4)):
            self.datasets.Dataset.from_dict(columns(count)).to_parquet(str(tmp_path / f"{split}.parquet"))
        args = {"dataset": str(tmp_path), "input_column": "img", "target_column": "label"}
        federation = build_federation("hub", None, args, PartitionSpec("iid", clients=3, min_examples=2), seed=1)
        assert [len(client.train) for client in federation.clients.values()] == [4, 4, 4]
        assert len(federation.test) == 4

    def test_missing_column_and_uneven_inputs_are_named(self) -> None:
        train = self.datasets.Dataset.from_dict(columns())
        with pytest.raises(DataError, match="'sound'"):
            from_datasets(train, None, Columns("sound", "label"))
        uneven = self.datasets.Dataset.from_dict({"x": [[1.0], [1.0, 2.0]], "y": [0, 1]})
        with pytest.raises(DataError, match="one shape"):
            from_datasets(uneven, None, Columns("x", "y"))


@pytest.mark.parametrize("args", [{"input_column": "img"}, {"input_column": "img", "target_column": "y", "colour": 1}])
def test_columns_that_are_missing_or_unknown_are_named(args: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"'target_column'|'colour'"):
        build_federation(
            "hub", None, {"dataset": "somebody/something", **args}, PartitionSpec("iid", clients=2), seed=1
        )


def test_every_value_of_a_client_column_becomes_a_client_id_of_its_own() -> None:
    names = ["speaker-1", "speaker-Ça va?", "speaker-Ca-va-", "speaker-é/è", "speaker-é\\è", "speaker-AB", "speaker-ab"]
    found = client_ids([*names, "speaker-" + "x" * 90, "speaker-" + "x" * 91])
    assert found[0] == "speaker-1"
    assert client_id_problem(*found) == ""
    assert len({name.casefold() for name in found}) == len(found)
