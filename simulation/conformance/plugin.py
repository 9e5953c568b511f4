"""pytest's side of the conformance suite: name a strategy on the command line and get the verdict.

    pytest --stonecrop-strategy package.module:Class --stonecrop-args '{"decay": 0.9}'

runs the suite for that class and nothing else, unless tests are named too. The class may be one of Flower's. A name
without a colon is one that a config may use. In a test file of one's own, ``simulation.conformance.suite`` has the
class to derive from. Nothing heavy is imported before a strategy is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

COLLECTED = Path(__file__).with_name("collected.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options in a group of their own."""
    group = parser.getgroup("stonecrop", "conformance of a federated strategy")
    group.addoption(
        "--stonecrop-strategy", metavar="MODULE:CLASS", help="the strategy, as a config names it; runs the suite"
    )
    group.addoption("--stonecrop-args", metavar="JSON", default="{}", help="its arguments, an object")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the suite: alone where no test was named, else after those that were."""
    if config.getoption("--stonecrop-strategy") is None:
        return
    named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    config.args = [*named, str(COLLECTED)]


@pytest.fixture(scope="session")
def stonecrop_section(pytestconfig: pytest.Config) -> dict[str, object]:
    """The section ``strategy`` of a config, from the command line."""
    chosen = pytestconfig.getoption("--stonecrop-strategy")
    if chosen is None:
        raise pytest.UsageError("expected --stonecrop-strategy MODULE:CLASS")
    try:
        args = json.loads(pytestconfig.getoption("--stonecrop-args"))
    except ValueError as error:
        raise pytest.UsageError(f"--stonecrop-args: expected JSON ({error})") from None
    if not isinstance(args, dict):
        raise pytest.UsageError(f"--stonecrop-args: expected an object, got {type(args).__name__}")
    return {"factory" if ":" in chosen else "name": chosen, "args": args}
