"""The handwritten digits that scikit-learn brings along, as LMDBs for training and test.

1,797 images of 8×8 pixels with values 0 … 16, ten classes. Source: E. Alpaydin and C. Kaynak,
Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (its test part).
"""

from __future__ import annotations

from pathlib import Path

from caffesplit.data import prepare
from caffesplit.data.images import from_arrays
from caffesplit.data.prepare import Preparation, Progress, Written, silent
from caffesplit.errors import DatabaseError

IMAGES = 1797
TEST_IMAGES = 1000
TRAIN_IMAGES = 500
"""By default. So few that a net which has learnt them still errs on some of the test's."""

CLASSES = 10

TRAIN_LMDB, TEST_LMDB = "digits_train_lmdb", "digits_test_lmdb"


def write(
    folder: Path | str,
    train_images: int = TRAIN_IMAGES,
    seed: int = 0,
    preparation: Preparation | None = None,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Written:
    """Write digits_train_lmdb and digits_test_lmdb into `folder`, with what `prepare.write` adds.

    Both hold the classes in the same proportion, in random order. (Where fewer than ten images are
    left over, chance alone chooses those.) `seed` chooses the 1,000 test images and, among the
    others, the training images: the test set does not depend on their number.

    Raises:
        DatabaseError: if scikit-learn or lmdb are missing, or `train_images` is out of range.
        OutputError: if one of the outputs exists and `force` is false; then none is written.
    """
    most = IMAGES - TEST_IMAGES
    if not CLASSES <= train_images <= most:
        raise DatabaseError(
            f"{train_images} training images",
            f"{CLASSES} … {most}, what {TEST_IMAGES} test images leave of {IMAGES}",
        )
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DatabaseError(
            "scikit-learn is not installed", remedy="Install it: pip install scikit-learn"
        ) from error
    digits = load_digits()
    images, labels = digits.images.astype("uint8")[:, None], digits.target
    rest, test = train_test_split(
        range(IMAGES), test_size=TEST_IMAGES, stratify=labels, random_state=seed
    )
    if most - train_images >= CLASSES:
        rest, _ = train_test_split(
            rest, train_size=train_images, stratify=labels[rest], random_state=seed
        )
    else:  # Too few to leave out for one of each class; they are in random order already.
        rest = rest[:train_images]
    return prepare.write(
        Path(folder),
        "digits",
        {
            TRAIN_LMDB: from_arrays(images[rest], labels[rest]),
            TEST_LMDB: from_arrays(images[test], labels[test]),
        },
        preparation or Preparation(),
        {"data": "digits", "train_images": train_images, "seed": seed},
        force=force,
        progress=progress,
    )
