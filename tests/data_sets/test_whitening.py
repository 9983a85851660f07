from __future__ import annotations

import math

import numpy as np
import pytest

from caffesplit.data import whitening
from caffesplit.errors import DatabaseError


def images(count: int = 400, values: int = 12, seed: int = 0) -> np.ndarray:
    """Correlated values, some of them faint."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((values, values)) * np.logspace(-1, 2, values)
    return rng.standard_normal((count, values)) @ mixing + rng.uniform(0, 255, values)


def covariance(values: np.ndarray) -> np.ndarray:
    """By naive loops."""
    count, width = values.shape
    mean = [math.fsum(values[:, i]) / count for i in range(width)]
    return np.array(
        [
            [
                math.fsum((row[i] - mean[i]) * (row[j] - mean[j]) for row in values) / count
                for j in range(width)
            ]
            for i in range(width)
        ]
    )


def test_a_contrast_normalized_image_has_the_mean_0_and_the_norm_55():
    raw = images()

    normalized = whitening.contrast_normalized(raw)

    for before, after in zip(raw, normalized, strict=True):
        mean = math.fsum(before) / len(before)
        norm = math.sqrt(math.fsum((value - mean) ** 2 for value in before))
        expected = [(value - mean) / norm * 55 for value in before]
        np.testing.assert_allclose(after, expected, rtol=1e-12, atol=1e-12)


def test_a_uniform_image_becomes_zeros():
    assert not whitening.contrast_normalized(np.full((2, 9), 77.0)).any()


def test_whitened_data_have_the_covariance_that_epsilon_leaves_of_the_identity():
    """Along the axis of the eigenvalue λ it is λ / (λ + ε), and nothing across axes."""
    raw = images()
    variances, axes = np.linalg.eigh(covariance(raw))

    for epsilon in (10, 0.1, 1e-3):
        whitened = whitening.fit([raw], epsilon)(raw)
        expected = axes @ np.diag(variances / (variances + epsilon)) @ axes.T
        np.testing.assert_allclose(covariance(whitened), expected, atol=1e-9)
        np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-9)


def test_as_epsilon_goes_to_0_the_covariance_goes_to_the_identity():
    raw = images()
    least = np.linalg.eigvalsh(covariance(raw))[0]

    for epsilon in 10.0 ** -np.arange(0, 10):
        whitened = whitening.fit([raw], epsilon)(raw)
        distance = np.linalg.norm(covariance(whitened) - np.eye(12), 2)
        assert distance == pytest.approx(epsilon / (least + epsilon), rel=1e-3, abs=1e-6)


def test_zca_is_the_whitening_that_is_symmetric():
    """Of all whitenings it stays nearest to the images: its matrix is (Σ + ε)^(-1/2)."""
    raw = images()

    fitted = whitening.fit([raw], 0.1)

    np.testing.assert_allclose(fitted.matrix, fitted.matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(fitted.matrix)[0] > 0
    regularised = covariance(raw) + 0.1 * np.eye(12)
    np.testing.assert_allclose(fitted.matrix @ regularised @ fitted.matrix, np.eye(12), atol=1e-9)


def test_values_that_never_vary_become_zeros():
    raw = images()
    raw[:, [2, 5]] = 16
    assert np.abs(whitening.fit([raw])(raw)[:, [2, 5]]).max() < 1e-9


@pytest.mark.parametrize("size", [1, 7, 400])
def test_the_fit_does_not_depend_on_the_batches(size):
    raw = images()
    fitted = whitening.fit(raw[at : at + size] for at in range(0, 400, size))
    np.testing.assert_allclose(fitted.matrix, whitening.fit([raw]).matrix, rtol=1e-7, atol=1e-12)


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    fitted = whitening.fit([images()], 0.3)

    fitted.save(tmp_path / "zca.npz")
    loaded = whitening.load(tmp_path / "zca.npz")

    assert loaded.epsilon == 0.3
    np.testing.assert_array_equal(loaded.mean, fitted.mean)
    np.testing.assert_array_equal(loaded.matrix, fitted.matrix)


def test_images_that_are_too_large_for_a_matrix_are_refused():
    with pytest.raises(DatabaseError) as caught:
        whitening.fit([np.zeros((1, 3 * 224 * 224))])
    assert str(caught.value) == (
        "images of 150,528 values, expected at most 12,288, since whitening takes a matrix of "
        "their square\nWrite the images smaller."
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_with_values_that_are_not_finite_are_refused(value):
    raw = images()
    raw[3, 4] = value
    with pytest.raises(DatabaseError) as caught:
        whitening.fit([raw])
    assert str(caught.value) == (
        "images with values that are no finite numbers, expected finite ones"
    )


def test_without_images_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="no images to fit a whitening to"):
        whitening.fit([])
