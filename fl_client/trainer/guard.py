"""What a server gets of a device: only code that the owner has listed runs, and only what the owner shares is told.

A plan is data, but ``package.module:callable`` in it makes a device import and call code. So every text of that form,
wherever in the plan it stands, must be in ``device.yaml``; the check comes before anything is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from fl_client.hardware.condition import condition_of
from fl_client.home import DeviceHome, DeviceSettings
from fl_client.trainer.calls import Call, CallTrainer
from fl_core.errors import PolicyError, StonecropError
from fl_core.questions import INFO
from fl_core.records import decode_info, encode_info
from fl_core.types import RoundPlan

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class GuardedTrainer:
    """``inner`` behind the allow-list of a device and the policy of each question."""

    def __init__(
        self, inner: CallTrainer, home: DeviceHome, condition: Callable[[], Mapping[str, float]] = condition_of
    ) -> None:
        self._inner = inner
        self._folder = f"{home.folder}{os.sep}"
        self._device = home.device
        self._condition = condition

    def answer(self, call: Call) -> bytes:
        """The inner trainer's reply; to who the device is, with how it is right now, where its owner shares that.

        What goes wrong names the files of the home as its owner sees them there, for where the home lies is nobody
        else's business.

        Raises:
            PolicyError: the plan names code or a model that the device does not allow, or the reply would say
                something of private examples.
        """
        try:
            return self._answer(call)
        except StonecropError as error:
            if self._folder not in str(error):
                raise
            raise type(error)(str(error).replace(self._folder, "")) from error

    def _answer(self, call: Call) -> bytes:
        if call.plan is not None:
            check_names(call.plan, self._device)
        if call.question.policy == "simulated" and not self._device.simulated:
            who = f"client {self._device.client_id}"
            raise PolicyError(f"{who}: scores on private examples do not leave a device under DP")
        reply = self._inner.answer(call)
        if call.question != INFO or not self._device.share_device_state:
            return reply
        return encode_info(replace(decode_info(reply, "trainer"), device=self._condition()))


def check_names(plan: RoundPlan, device: DeviceSettings) -> None:
    """Refuse a plan that names what the device does not allow.

    Raises:
        PolicyError: names the field of the plan, what came and where it can be allowed.
    """
    who = f"client {device.client_id}"
    for where, text in _texts(plan.training, "training"):
        names_code = where.endswith(".factory") or _CALLABLE.fullmatch(text)
        if names_code and text not in device.factories:
            raise PolicyError(f"{who}: {where}: {text!r} is not among the factories that device.yaml allows")
    section = plan.training.get("model")
    model = section.get("name") if isinstance(section, Mapping) else None
    if device.models is not None and model is not None and model not in device.models:
        raise PolicyError(f"{who}: model.name: {model!r} is not among the models that device.yaml allows")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text inside plain values, with its dotted place; names of fields too, where they could be one."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{where} key", str(key)
            yield from _texts(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{where}[{number}]")
