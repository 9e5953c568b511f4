"""Named seeds depend on their names alone; secret noise never repeats."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fl_core.rng import SecretNoise, SeededNoise, derive_seed, generator


def test_seed_is_the_same_on_every_machine() -> None:
    assert derive_seed(7, "partition", "client 3") == 0x6132_8B8B_5EA0_1930


def test_names_that_look_alike_give_different_seeds() -> None:
    lists = [("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), (1,), ("1",), (1, 2), (12,), (), (-1,), ("a,b",)]
    assert len({derive_seed(*names) for names in lists}) == len(lists)


@pytest.mark.parametrize("name", [True, 1.0, None, np.int64(3)])
def test_only_words_and_whole_numbers_name_a_seed(name: object) -> None:
    with pytest.raises(TypeError, match="str or int"):
        derive_seed(name)  # type: ignore[arg-type]


def test_generators_of_equal_names_draw_equally() -> None:
    assert np.array_equal(generator("x", 1).random(5), generator("x", 1).random(5))
    assert not np.array_equal(generator("x", 1).random(5), generator("x", 2).random(5))


def test_seeded_draws_do_not_depend_on_their_order() -> None:
    forwards, backwards = (SeededNoise(1, "run", 2, "client") for _ in range(2))
    names = [(step, name) for step in range(3) for name in ("a", "b")]
    first = {key: forwards.normal(*key, (5,)) for key in names}
    masks = [forwards.poisson_mask(step, 50, 0.5) for step in range(3)]
    for step in reversed(range(3)):
        assert np.array_equal(backwards.poisson_mask(step, 50, 0.5), masks[step])
    for key in reversed(names):
        assert np.array_equal(backwards.normal(*key, (5,)), first[key])


@pytest.mark.parametrize(
    "other",
    [
        SeededNoise(2, "run", 2, "c"),
        SeededNoise(1, "nur", 2, "c"),
        SeededNoise(1, "run", 3, "c"),
        SeededNoise(1, "run", 2, "d"),
    ],
    ids=["seed", "run", "round", "client"],
)
def test_every_name_of_a_seeded_source_counts(other: SeededNoise) -> None:
    assert not np.array_equal(SeededNoise(1, "run", 2, "c").normal(0, "a", (5,)), other.normal(0, "a", (5,)))


def test_secret_noise_never_repeats() -> None:
    one, two = SecretNoise(), SecretNoise()
    draws = [source.normal(0, "a", (8,)).tobytes() for source in (one, one, two)]
    assert len(set(draws)) == 3


def test_sources_say_whether_they_can_be_repeated() -> None:
    assert SeededNoise(1, "run", 2, "c").simulated
    assert not SecretNoise().simulated


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_repeat_its_parents_noise() -> None:
    source = SecretNoise()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, source.normal(0, "a", (4,)).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 32)
    os.close(reader)
    os.close(writer)
    assert source.normal(0, "a", (4,)).tobytes() != theirs
