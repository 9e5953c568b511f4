"""What only a simulator may see: the artefact of a round, of its own width, on every client's held-out examples.

These figures are events of visibility ``simulation``. On boards nobody computes them: they stay on the board.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_core.data.federation import ClientData, Examples
from fl_core.tasks.scores import mean_score
from fl_core.types import FloatArray
from fl_server.results.confusion import confusion_of
from fl_server.results.evaluate import scoring
from fl_server.results.observer import Observer, RoundView


def watch_clients(clients: Mapping[str, ClientData]) -> Observer:
    """An observer that scores float and int8 model on the held-out part of each client."""

    def observe(view: RoundView) -> None:
        task, who = view.setup.task, scoring(view.setup, view.round)
        for name, client in sorted(clients.items()):
            if client.test is None:
                continue
            output_BX = float_BX = view.nets.outputs(view.model, f"held out by {name}", client.test.x, fake_quant=False)
            int8 = None
            bits = view.setup.spec.quant.width_of(name)
            runners = (each.runner for each in view.published if each.weight_bits == bits)
            own = next((runner for runner in runners if runner is not None), None)
            if own is not None:
                output_BX = own.run(client.test.x)
                int8 = mean_score(task, who, output_BX, client.test.y)
            view.events.append(
                "client_evaluated",
                view.round,
                "simulation",
                client_id=name,
                examples=len(client.test),
                accuracy_float=mean_score(task, who, float_BX, client.test.y),
                accuracy_int8=int8,
                **_confusion(view, output_BX, client.test),
            )

    return observe


def _confusion(view: RoundView, output_BX: FloatArray, test: Examples) -> dict[str, Any]:
    """After the last round the classes that are taken for each other, where no test set of the server tells them."""
    setup = view.setup
    if setup.data.test is not None or view.round != setup.config.run.rounds:
        return {}
    counts = confusion_of(setup.task, output_BX, test, len(setup.data.labels))
    return {} if counts is None else {"confusion": counts}
