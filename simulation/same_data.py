"""Every process of a simulated run, and every start of it, makes the data for itself: it must be the same each time."""

from __future__ import annotations

from pathlib import Path

from fl_core.config import Config
from fl_core.data.federation import Federation
from fl_core.data.fingerprint import fingerprint
from fl_core.errors import DataError
from fl_core.files import read_json, write_json
from simulation.client_ledger import client_folder


def data_file(run_dir: Path) -> Path:
    """Where a run keeps digests of the data that it began with; they tell something of the examples."""
    return client_folder(run_dir) / "data.json"


def check_same_data(config: Config, federation: Federation, run_dir: Path) -> None:
    """Refuse data that is not the one with which the run began; where it begins only now, write down which it is.

    Raises:
        DataError: names the factory and the first part that differs.
        RunFolderError: what was written down cannot be read.
    """
    path, found = data_file(run_dir), fingerprint(federation)
    kept = read_json(path)
    if kept is None:
        write_json(path, found)
        return
    other = next((owner for owner in (kept | found) if kept.get(owner) != found.get(owner)), None)
    if other is None:
        return
    data = config.data
    named = f"data.factory {data.factory}" if data.factory else f"data.name {data.name}"
    came = "none" if other not in found else "others"
    raise DataError(
        f"{named}: {other}: expected the examples with which the run began, got {came}; data.args and run.seed must "
        "decide them: draw with the seed that the factory takes as its parameter seed. Where the data itself has "
        "changed, start the run anew with --overwrite"
    )
