"""Data sets written as LMDBs, prepared: contrast-normalised, whitened, padded, with their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from caffesplit.data import mean, whitening
from caffesplit.data.images import BATCH, Image, Images, from_lmdb
from caffesplit.data.whitening import EPSILON, Float, Whitening, contrast_normalized
from caffesplit.errors import Location, OutputError
from caffesplit.formats import database
from caffesplit.formats.database import Pixels
from caffesplit.formats.output import replacing
from caffesplit.formats.partial import SUFFIX, Recipe, build

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much (0: nobody knows) of it is done."""


def silent(doing: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


def expect_name(destination: Path) -> None:
    """Raise OutputError if an output is `.`, `..` or `/`, beside which nothing can be prepared."""
    if destination.name in ("", ".."):
        raise OutputError(
            "an output without a name", "a name", "Give it one.", Location(str(destination))
        )


@dataclass(frozen=True)
class Preparation:
    """What is done to the images, in this order; nothing by default.

    gcn: contrast-normalise each image. zca: whiten them, by what the first data set shows.
    pad: surround them with so many zeros on each side.
    """

    gcn: bool = False
    zca: bool = False
    epsilon: float = EPSILON
    pad: int = 0

    def values(self, batch: list[Image]) -> Float:
        """The images' values (B, D), contrast-normalised if they are to be."""
        images = np.stack([pixels.ravel() for _, pixels, _ in batch]).astype(np.float64)
        return contrast_normalized(images) if self.gcn else images

    def __call__(self, batch: list[Image], whiten: Whitening | None) -> Iterator[Image]:
        """The batch, prepared."""
        if self.gcn or whiten:
            values = self.values(batch)
            prepared = (whiten(values) if whiten else values).astype(np.float32)
            shaped: list[Pixels] = [
                row.reshape(pixels.shape)
                for row, (_, pixels, _) in zip(prepared, batch, strict=True)
            ]
        else:
            shaped = [pixels for _, pixels, _ in batch]
        for pixels, (key, _, label) in zip(shaped, batch, strict=True):
            yield key, padded(pixels, self.pad) if self.pad else pixels, label


def padded(pixels: Pixels, margin: int) -> Pixels:
    """The image (C, H, W) in the middle of zeros, (C, H + 2 margin, W + 2 margin)."""
    channels, height, width = pixels.shape
    result: Pixels = np.zeros((channels, height + 2 * margin, width + 2 * margin), pixels.dtype)
    result[:, margin : margin + height, margin : margin + width] = pixels
    return result


@dataclass(frozen=True)
class Written:
    """The paths of what `write` has written; `whitening` is None where nothing was whitened."""

    databases: tuple[Path, ...]
    mean: Path
    whitening: Path | None


def write(
    folder: Path,
    name: str,
    sets: Mapping[str, Images],
    preparation: Preparation,
    recipe: Recipe,
    *,
    force: bool = False,
    inputs: Iterable[Path] = (),
    progress: Progress = silent,
) -> Written:
    """Write `sets`, by the names of their databases, into `folder`.

    Beside them NAME_mean.binaryproto, the mean of the first set as it is written, and
    NAME_zca.npz, the whitening that was fitted to it. `recipe` tells the data set from others, so
    that a stopped run can be gone on with.

    Raises:
        DatabaseError: if the images cannot be read, or are too large to be whitened.
        OutputError: if one of the outputs exists and `force` is false; then none is written.
    """
    first = next(iter(sets))
    mean_name, zca_name = f"{name}_mean.binaryproto", f"{name}_zca.npz"
    outputs = [*(f"{each}/{database.DATA_FILE}" for each in sets), mean_name]
    if preparation.zca:
        outputs.append(zca_name)

    def make(partial: Path) -> None:
        whiten = None
        if preparation.zca:
            whiten = _fitted(partial / zca_name, sets[first], preparation, progress)
        for each, images in sets.items():
            database.complete(
                partial / each,
                _records(images, preparation, whiten),
                _of(progress, f"writing {each}", images.count),
            )
        mean.write(from_lmdb(partial / first), partial / mean_name, force=True)

    build(
        folder / f"{name}{SUFFIX}",
        outputs,
        make,
        {**recipe, **asdict(preparation)},
        force=force,
        inputs=inputs,
    )
    databases = tuple(folder / each for each in sets)
    return Written(databases, folder / mean_name, folder / zca_name if preparation.zca else None)


def _fitted(path: Path, images: Images, preparation: Preparation, progress: Progress) -> Whitening:
    """The whitening in `path`, which is fitted first where it is not there."""
    if not path.exists():
        doing = _of(progress, "fitting the whitening", images.count)

        def batches() -> Iterator[Float]:
            done = 0
            for batch in images.batches():
                yield preparation.values(batch)
                done += len(batch)
                doing(done)

        fitted = whitening.fit(batches(), preparation.epsilon)
        with replacing(path) as (staged,):
            fitted.save(staged)
    return whitening.load(path)


def _records(
    images: Images, preparation: Preparation, whiten: Whitening | None
) -> Callable[[int], database.Records]:
    def records(start: int) -> database.Records:
        # Batches are always the same ones: a product's last bits may depend on its batch.
        ahead = start % BATCH
        for batch in images.batches(start - ahead):
            for key, pixels, label in list(preparation(batch, whiten))[ahead:]:
                yield key, database.datum(pixels, label)
            ahead = 0

    return records


def _of(progress: Progress, doing: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(doing, done, total)
