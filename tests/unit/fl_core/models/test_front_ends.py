"""The fixed layers of the banks: filters by formula, public signals without data, features that are centred."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fl_core.models import build_model
from fl_core.models.filters import gabor_bank, low_pass, tone_bank
from fl_core.models.mixing import mixing_layer
from fl_core.models.public_signals import movements, strokes


def test_gabor_filters_have_mean_0_and_norm_1_and_come_with_both_signs() -> None:
    bank = gabor_bank(9, (5.0, 9.0), 8)
    assert bank.shape == (64, 9, 9)
    np.testing.assert_allclose(bank.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose((bank**2).sum(axis=(1, 2)), 1)
    np.testing.assert_allclose(bank[0::2], -bank[1::2])


@pytest.mark.parametrize("frequency_hz", [2.0, 4.0, 8.0])  # a window of 1 s cannot tell slower ones apart
def test_tones_answer_most_to_their_own_frequency_and_not_to_rest(frequency_hz: float) -> None:
    frequencies = (0.5, 1.0, 2.0, 4.0, 8.0)
    pairs = tone_bank(49, frequencies, 50.0)
    np.testing.assert_allclose(pairs.sum(axis=2), 0, atol=1e-12)
    np.testing.assert_allclose((pairs**2).sum(axis=2), 1)
    time_s = (np.arange(49) - 24) / 50
    wave = np.exp(2j * np.pi * frequency_hz * time_s)
    answers = np.abs(pairs[:, 0] @ wave)
    assert frequencies[int(answers.argmax())] == frequency_hz


def test_low_pass_keeps_a_constant() -> None:
    assert low_pass(49, 25).sum() == pytest.approx(1)


def test_public_signals_are_the_same_every_time_and_in_range() -> None:
    images, signals = strokes(50, 28), movements(50, 6, 100, 50.0)
    assert images.shape == (50, 1, 28, 28)
    assert signals.shape == (50, 6, 100)
    assert images.min() == 0.0
    assert images.max() == 1.0
    assert np.abs(signals).max() <= 1.0
    np.testing.assert_array_equal(images, strokes(50, 28))
    np.testing.assert_array_equal(signals, movements(50, 6, 100, 50.0))
    assert len(np.unique(images.reshape(50, -1), axis=0)) == 50


@pytest.mark.parametrize("shrink", [0.01, 1.0, 100.0])
def test_mixing_centres_and_evens_out(shrink: float) -> None:
    draw = np.random.default_rng(1)
    feature = (draw.standard_normal((500, 20)) * np.geomspace(5, 0.2, 20) + 3.0).astype(np.float32)
    layer = mixing_layer(feature, 10, shrink)
    with torch.no_grad():
        mixed = layer(torch.from_numpy(feature)).numpy()
    np.testing.assert_allclose(mixed.mean(axis=0), 0, atol=1e-4)
    assert np.linalg.norm(mixed, axis=1).mean() == pytest.approx(1, abs=1e-3)
    variance = np.cov(mixed.T)
    np.testing.assert_allclose(variance - np.diag(np.diag(variance)), 0, atol=1e-4)
    spread = np.diag(variance).max() / np.diag(variance).min()
    before = np.geomspace(5, 0.2, 20) ** 2
    assert 1 <= spread < before[0] / before[9] * 1.5
    assert (spread < 1.5) == (shrink < 0.1)  # only a small shrink whitens
    assert np.abs(mixed).max() < layer.output_range[1]


def test_image_bank_features_of_public_strokes_do_not_saturate() -> None:
    model = build_model("image_bank", None, {}, (1, 28, 28), 10, 1)
    with torch.no_grad():
        mixed = model[:-1](torch.from_numpy(strokes(200, 28)))
    assert mixed.abs().max() < model.mix.output_range[1]
    assert mixed.norm(dim=1).mean() == pytest.approx(1, abs=0.1)


def test_imu_bank_hardly_minds_where_a_movement_began() -> None:
    model = build_model("imu_bank", None, {}, (6, 100), 7, 1)[:-1]
    time_s = np.arange(150) / 50
    wave = 0.5 * np.sin(2 * np.pi * 2.0 * time_s)
    slower = 0.5 * np.sin(2 * np.pi * 0.5 * time_s)

    def features(signal: np.ndarray, start: int) -> torch.Tensor:
        x = np.zeros((1, 6, 100), np.float32)
        x[0, 1] = signal[start : start + 100]
        with torch.no_grad():
            return model(torch.from_numpy(x))

    shifted = (features(wave, 0) - features(wave, 17)).norm()
    other = (features(wave, 0) - features(slower, 0)).norm()
    assert shifted < 0.3 * other
