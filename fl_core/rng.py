"""Randomness by name: seeds that say what they are for, and the two sources of noise for private training.

A named seed depends on its names alone, never on the order of calls, the engine or the number of workers.
``SeededNoise`` is built on such seeds: it makes a simulation repeatable, and hides nothing from whoever knows the
seed. ``SecretNoise`` comes from the operating system's entropy and serves where a guarantee is given.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fl_core.types import RoundPlan

NormalArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_AES_BLOCK_BYTES = 16
_CHUNK_DRAWS = 1 << 15
"""Standard normals made at a time: the work arrays then stay in the processor's cache."""


def _digest(names: Sequence[str | int]) -> bytes:
    """SHA-256 of the names, each with its type and length in front, so that no two lists of names collide."""
    digest = hashlib.sha256()
    for name in names:
        # bool is an int and would silently stand for 0 or 1; numpy integers would depend on their width.
        if type(name) is not str and type(name) is not int:
            raise TypeError(f"name of a seed: expected str or int, got {type(name).__name__} {name!r}")
        text = str(name).encode()
        digest.update(f"{'s' if isinstance(name, str) else 'i'}{len(text)}:".encode())
        digest.update(text)
    return digest.digest()


def derive_seed(*names: str | int) -> int:
    """A seed of 64 bits, 0 to 2**64 - 1, that depends on the names and on nothing else.

    Example: ``derive_seed(7, "partition", "client 3")``

    Raises:
        TypeError: a name is neither str nor int.
    """
    return int.from_bytes(_digest(names)[:8], "big")


def generator(*names: str | int) -> np.random.Generator:
    """A generator of its own (Philox, 128-bit key) for the names; equal names give equal draws.

    Raises:
        TypeError: a name is neither str nor int.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(names)[:16], "big")))


class NoiseSource(Protocol):
    """Where private training takes its chance from: which examples enter a batch, and the noise on their sum."""

    @property
    def simulated(self) -> bool:
        """Whether the draws can be repeated by whoever knows a seed; a guarantee then holds in simulation only."""

    def normal(self, step: int, tensor: str, shape: Sequence[int]) -> NormalArray:
        """Independent standard normal draws, float64, for one named tensor of one step."""

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        """Bool [examples]: each is True with probability ``sample_rate``, independently of all others."""


class SeededNoise:
    """Repeatable noise for simulation and tests: a counter over (seed, run, round, client, step, tensor).

    Every draw has a key of its own, so it is the same whatever was drawn before it and by which process.
    """

    simulated = True

    def __init__(self, seed: int, run: str, round_number: int, client_id: str) -> None:
        self._names = ("noise", int(seed), run, int(round_number), client_id)

    def normal(self, step: int, tensor: str, shape: Sequence[int]) -> NormalArray:
        """Standard normal draws, float64 [shape], that depend on the step and the tensor's name alone."""
        return generator(*self._names, "normal", int(step), tensor).standard_normal(tuple(shape))

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        """Bool [examples]: which take part in ``step``, each with probability ``sample_rate``, drawn by its number.

        Raises:
            ValueError: ``sample_rate`` is not above 0 and at most 1.
        """
        _check_rate(sample_rate)
        return generator(*self._names, "poisson", int(step)).random(examples) < sample_rate


def seeded_noise(plan: RoundPlan) -> NoiseSource:
    """The repeatable noise of one client's task, named by the plan that asks for it."""
    return SeededNoise(plan.seed, plan.run, plan.round, plan.client_id)


class SecretNoise:
    """Noise that nobody can repeat: AES-256 in counter mode, keyed once from the operating system's entropy.

    A standard normal is the sum of four Box-Muller draws in float64, divided by two. One draw alone leaks through
    the gaps between floating-point numbers; recovering the sum of four is infeasible (arXiv 2107.10138, section 4;
    the secure mode of Opacus does the same). Names are ignored: no two calls ever share a draw.
    """

    simulated = False

    def __init__(self) -> None:
        self._rekey()

    def _rekey(self) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(_AES_BLOCK_BYTES)))
        self._encryptor = cipher.encryptor()
        self._process = os.getpid()

    def _words(self, count: int) -> npt.NDArray[np.uint64]:
        # A forked child would go on in its parent's stream and repeat its noise.
        if os.getpid() != self._process:
            self._rekey()
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), dtype="<u8")

    def normal(self, step: int, tensor: str, shape: Sequence[int]) -> NormalArray:
        """Standard normal draws, float64 [shape], new ones at every call."""
        count = int(np.prod(tuple(shape), dtype=np.int64))
        out = np.empty(count)
        for start in range(0, count, _CHUNK_DRAWS):
            end = min(start + _CHUNK_DRAWS, count)
            out[start:end] = self._sums_of_four(end - start)
        return out.reshape(tuple(shape))

    def _sums_of_four(self, count: int) -> NormalArray:
        words = self._words(4 * count).reshape(2, 2 * count)
        # 53 bits each; the radius' uniform lies in (0, 1], so that its logarithm is finite.
        radius = np.sqrt(-2.0 * np.log(((words[0] >> np.uint64(11)) + np.uint64(1)) * 2.0**-53))
        angle = (words[1] >> np.uint64(11)) * (2.0 * np.pi * 2.0**-53)
        cosine = (radius * np.cos(angle)).reshape(2, count)
        sine = (radius * np.sin(angle)).reshape(2, count)
        # Cosine and sine of one pair share their radius: shifted by one, they end in sums of different elements.
        sums: NormalArray = cosine[0] + cosine[1] + np.roll(sine[0], 1) + np.roll(sine[1], 1)
        return sums * 0.5

    def poisson_mask(self, step: int, examples: int, sample_rate: float) -> BoolArray:
        """Bool [examples]: each is True with probability ``sample_rate``, drawn anew at every call.

        Raises:
            ValueError: ``sample_rate`` is not above 0 and at most 1.
        """
        _check_rate(sample_rate)
        return (self._words(examples) >> np.uint64(11)) * 2.0**-53 < sample_rate


def _check_rate(sample_rate: float) -> None:
    if not 0.0 < sample_rate <= 1.0:
        raise ValueError(f"sample_rate must be over 0 and at most 1, got {sample_rate}")
