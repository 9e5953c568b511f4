"""Every device, policy and config that the docs show is taken, and goes with what the docs say that it goes with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import toy
import yaml

from fl_client.home import open_home
from fl_client.trainer.task import size_class
from fl_core.config import Config, load_config, to_plain
from fl_core.config.load import from_plain
from fl_core.errors import BudgetSpentError
from fl_core.privacy.ledger import Ledger
from fl_core.privacy.policy import DevicePolicy
from fl_core.types import DpTerms
from fl_server.plan.setup import Setup
from fl_server.plan.tasks import dp_terms

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^ *```(?P<kind>yaml|json)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
SIZES = (16, 128, 400, 5000)
"""Examples of a device."""


def shown(kind: str) -> Iterator[tuple[str, str]]:
    """Each fenced block of a kind, with the name of its page."""
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if block["kind"] == kind:
                yield page.name, block["text"]


POLICIES = [(page, text) for page, text in shown("json") if "epsilon_cap" in text]
DEVICES = [(page, text) for page, text in shown("yaml") if text.startswith("client_id:")]
RUNS = [(page, text) for page, text in shown("yaml") if text.startswith("# my_run.yaml")]
SECTIONS = [
    pytest.param(section, id=f"{page}: {section.splitlines()[0][:60]}")
    for page, text in shown("yaml")
    if (page, text) not in (*DEVICES, *RUNS)
    for section in re.split(r"\n(?=\S)", text)
    if section.strip() and "my_package" not in section
]


def private_configs(folder: Path) -> dict[str, Config]:
    """Each config with a privacy section that the package holds or the docs show."""
    for number, (page, text) in enumerate(RUNS):
        (folder / f"{number}-{page}.yaml").write_text(text, encoding="utf-8")
    paths = [*(ROOT / "configs").glob("*.yaml"), *folder.glob("*.yaml")]
    configs = {path.name: load_config(path) for path in paths}
    return {name: config for name, config in configs.items() if config.privacy is not None}


def terms_of(config: Config, examples: int) -> DpTerms:
    """What a board with so many examples is asked for."""
    terms = dp_terms(cast(Setup, Holder(config)), size_class(examples))
    assert terms is not None
    return terms


class Holder:
    """As much of a setup as terms need."""

    def __init__(self, config: Config) -> None:
        self.config = config


def test_there_is_something_to_look_at():
    assert len(POLICIES) == len(DEVICES) == 1
    assert len(RUNS) == 2
    assert len(SECTIONS) >= 6


@pytest.mark.parametrize(("page", "text"), POLICIES)
def test_a_documented_policy_takes_every_private_config_and_lasts_its_whole_run(page, text, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "policy.json").write_text(text, encoding="utf-8")
    policy = DevicePolicy.load(tmp_path / "home" / "policy.json")
    configs = private_configs(tmp_path)
    assert {"fleet.yaml", "quickstart.yaml", "mnist.yaml"} <= configs.keys()
    for name, config in configs.items():
        for examples in SIZES:
            policy.check(terms_of(config, examples))
        ledger, terms = Ledger(tmp_path / f"{name}.sqlite"), terms_of(config, SIZES[1])
        ledger.enrol("data", SIZES[1])
        for round in range(config.run.rounds):
            ledger.reserve("data", f"task {round}", terms, policy, run=name)
        with pytest.raises(BudgetSpentError):
            ledger.reserve("data", "one more", terms, policy, run=name)
        ledger.close()


@pytest.mark.parametrize(("page", "text"), DEVICES)
def test_a_documented_device_is_a_home(page, text, tmp_path):
    (tmp_path / "device.yaml").write_text(text, encoding="utf-8")
    assert open_home(tmp_path).device.client_id


@pytest.mark.parametrize("section", SECTIONS)
def test_a_documented_section_is_taken(section, tmp_path):
    plain = json.loads(json.dumps(to_plain(toy.config(tmp_path)), default=str))
    found = yaml.safe_load(section)
    assert from_plain({**plain, **found})
