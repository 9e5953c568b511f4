"""A simulated run goes on only with the data that it began with, whoever makes it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy

from fl_core.data.federation import Examples, Federation
from fl_core.errors import DataError, RunFolderError
from simulation.engines.registry import open_grid
from simulation.run import resume, run
from simulation.same_data import check_same_data, data_file


def begun(tmp_path: Path, data: Federation) -> Path:
    check_same_data(toy.config(tmp_path), data, tmp_path)
    return tmp_path


def test_data_that_a_seed_decides_is_the_same_at_every_start(tmp_path: Path) -> None:
    config = toy.config(tmp_path)
    for _ in range(2):
        with open_grid(config, toy.data(seed=3), tmp_path, workers=1):
            pass


def test_other_data_is_refused_with_the_factory_and_the_first_part_that_differs(tmp_path: Path) -> None:
    run_dir, config = begun(tmp_path, toy.data(seed=3)), toy.config(tmp_path)
    says = (
        r"^data\.factory toy:data: client client-0, train: expected the examples with which the run began, got others"
    )
    with pytest.raises(DataError, match=says), open_grid(config, toy.data(seed=4), run_dir, workers=1):
        pass


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("test", r"server test set: .*got others"),
        ("public", r"public examples: .*got none"),
        ("clients", r"client client-3, train: .*got none"),
    ],
)
def test_every_part_counts_and_so_do_its_targets(tmp_path: Path, part: str, says: str) -> None:
    whole = toy.data()
    assert whole.test is not None
    run_dir = begun(tmp_path, whole)
    clients = {name: client for name, client in whole.clients.items() if name != "client-3"}
    parts = {"test": Examples(whole.test.x, (whole.test.y + 1) % toy.CLASSES), "public": None, "clients": clients}
    other = replace(whole, **{part: parts[part]})
    with pytest.raises(DataError, match=says):
        check_same_data(toy.config(tmp_path), other, run_dir)


def drawn_anew() -> Federation:
    """Data that no seed decides."""
    return toy.data(seed=int(np.random.default_rng().integers(2**31)))


def test_data_that_no_seed_decides_is_refused_at_the_first_start_and_at_every_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "drawn_anew", drawn_anew, raising=False)
    config = toy.config(tmp_path, data={"factory": "toy:drawn_anew"})
    with pytest.raises(
        DataError, match=r"data\.factory toy:drawn_anew: client client-0, train: .*run\.seed must decide"
    ):
        run(config)
    with pytest.raises(DataError, match=r"data\.factory toy:drawn_anew"):
        resume(tmp_path / "toy")


def test_data_that_a_worker_makes_otherwise_is_refused_before_any_client_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(tmp_path / "runs", data={"factory": "shelf:data"})
    (tmp_path / "shelf.py").write_text("import os, toy\n\ndef data():\n    return toy.data(seed=os.getpid())\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"^data\.factory shelf:data: client client-0, train: expected the examples"):
        run(config, workers=2)


def test_a_federation_of_files_in_memory_is_that_of_its_arrays(tmp_path: Path) -> None:
    whole = toy.data()
    assert whole.test is not None
    run_dir = begun(tmp_path, whole)
    np.save(tmp_path / "x.npy", whole.test.x)
    mapped = Examples(np.load(tmp_path / "x.npy", mmap_mode="r"), whole.test.y)
    check_same_data(toy.config(tmp_path), replace(whole, test=mapped), run_dir)


def test_damaged_digests_are_named_with_their_file(tmp_path: Path) -> None:
    run_dir = begun(tmp_path, toy.data())
    data_file(run_dir).write_bytes(b"\xff")
    with pytest.raises(RunFolderError, match=r"data\.json: "):
        check_same_data(toy.config(tmp_path), toy.data(), run_dir)
