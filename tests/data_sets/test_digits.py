from __future__ import annotations

import sys

import numpy as np
import pytest

from caffesplit.data import digits
from caffesplit.errors import DatabaseError, OutputError
from caffesplit.formats import database


def content(folder) -> list[tuple[bytes, int]]:
    """Each record's pixels and label."""
    return [(datum.data, datum.label) for _, datum in database.read(folder)]


def test_training_and_test_images_are_scikit_learns_own_and_no_image_is_in_both(tmp_path):
    from sklearn.datasets import load_digits

    train, test = digits.write(tmp_path, train_images=797).databases

    data = load_digits()
    images = data.images.astype(np.uint8)
    every = [(image.tobytes(), label) for image, label in zip(images, data.target, strict=True)]
    assert sorted(content(train) + content(test)) == sorted(every)
    assert len(content(test)) == 1000


def test_both_sets_hold_the_classes_in_proportion(tmp_path):
    databases = digits.write(tmp_path, train_images=300).databases
    for folder, size in zip(databases, (300, 1000), strict=True):
        counts = np.bincount([label for _, label in content(folder)], minlength=10)
        assert counts.sum() == size
        assert abs(counts - size / 10).max() < 0.05 * size / 10 + 1


def test_the_seed_alone_chooses_the_test_set(tmp_path):
    _, small = digits.write(tmp_path / "a", train_images=100, seed=3).databases
    _, large = digits.write(tmp_path / "b", train_images=700, seed=3).databases
    _, other = digits.write(tmp_path / "c", train_images=700, seed=4).databases

    assert content(small) == content(large)
    assert content(large) != content(other)


def test_the_classes_come_in_no_order(tmp_path):
    train, _ = digits.write(tmp_path).databases
    labels = [label for _, label in content(train)]
    assert len(set(labels[:50])) == 10


@pytest.mark.parametrize("number", [9, 798])
def test_a_number_of_images_that_there_are_not_is_refused(tmp_path, number):
    with pytest.raises(DatabaseError) as caught:
        digits.write(tmp_path, train_images=number)

    assert str(caught.value) == (
        f"{number} training images, expected 10 … 797, what 1000 test images leave of 1797"
    )


def test_data_sets_that_exist_are_replaced_only_by_force(tmp_path):
    digits.write(tmp_path, seed=1)
    with pytest.raises(OutputError):
        digits.write(tmp_path, seed=2)
    before = content(tmp_path / digits.TRAIN_LMDB)

    digits.write(tmp_path, seed=2, force=True)

    assert content(tmp_path / digits.TRAIN_LMDB) != before


def test_neither_data_set_is_written_if_one_exists(tmp_path):
    _, test = digits.write(tmp_path / "old").databases
    (tmp_path / "new").mkdir()
    test.rename(tmp_path / "new" / digits.TEST_LMDB)

    with pytest.raises(OutputError):
        digits.write(tmp_path / "new")

    assert [path.name for path in (tmp_path / "new").iterdir()] == [digits.TEST_LMDB]


@pytest.mark.parametrize("number", [10, 787, 788, 795, 796, 797])
def test_any_number_of_training_images_there_are_can_be_had(tmp_path, number):
    train, test = digits.write(tmp_path, train_images=number).databases

    counts = np.bincount([label for _, label in content(train)], minlength=10)
    assert counts.sum() == number
    assert counts.min() > 0.8 * number / 10
    assert len(content(test)) == 1000


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(DatabaseError) as caught:
        digits.write(tmp_path)

    assert str(caught.value) == (
        "scikit-learn is not installed\nInstall it: pip install scikit-learn"
    )
