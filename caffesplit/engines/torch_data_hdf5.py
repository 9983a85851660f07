"""HDF5Data: batches of rows from a list of HDF5 files, one file in memory at a time.

Source: src/caffe/layers/hdf5_data_layer.cpp. Caffe shuffles with the C library's random numbers,
which nothing seeds; the order here is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caffesplit.engines.caffe_random import Random, endless
from caffesplit.errors import DatabaseError, Location

MAX_VALUES = 2**31 - 1
"""In one dataset, as in a blob of Caffe; a small file can claim more than the memory holds."""

Arrays = list[NDArray[np.float32]]


class Rows:
    """The rows of the datasets that are named like the layer's tops.

    Shuffled, the files come in another order each round, and the rows of each.
    """

    def __init__(
        self,
        listing: Path,
        root: Path,
        tops: Sequence[str],
        batch_size: int,
        order: Random | None,
        share: tuple[int, int],
    ) -> None:
        self._files = _listed(listing, root)
        self._tops, self._batch_size, self._order = tuple(tops), batch_size, order
        rank, count = share
        if order is not None:
            order.shuffle(self._files)
        self._first = read(self._files[0], self._tops)
        self.shapes = {
            top: (batch_size, *array.shape[1:])
            for top, array in zip(self._tops, self._first, strict=True)
        }
        self._rows = islice(self._all_rows(), rank, None, count)

    def next(self) -> dict[str, torch.Tensor]:
        batch = {top: torch.empty(shape) for top, shape in self.shapes.items()}
        arrays = [blob.numpy() for blob in batch.values()]
        for item, (found, row) in enumerate(islice(self._rows, self._batch_size)):
            for array, values in zip(arrays, found, strict=True):
                array[item] = values[row]
        return batch

    def _all_rows(self) -> Iterator[tuple[Arrays, int]]:
        """The datasets and the number of a row of theirs, without end."""
        later = endless(self._files, self._order, start=1)
        for arrays in chain([self._first], map(self._reread, later)):
            rows = list(range(len(arrays[0])))
            if self._order is not None:
                self._order.shuffle(rows)
            for row in rows:
                yield arrays, row

    def _reread(self, path: Path) -> Arrays:
        """The datasets of a file whose turn comes, which are shaped like the first one's."""
        if len(self._files) == 1:
            return self._first
        arrays = read(path, self._tops)
        for top, array, first in zip(self._tops, arrays, self._first, strict=True):
            if array.shape[1:] != first.shape[1:]:
                raise DatabaseError(
                    f'rows of shape {array.shape[1:]} in "{top}"',
                    f"{first.shape[1:]}, as in the first file",
                    "",
                    Location(str(path)),
                )
        return arrays


def read(path: Path, names: Sequence[str]) -> Arrays:
    """Datasets of an HDF5 file in float32, all with as many rows.

    Raises:
        DatabaseError: if h5py is missing, the file or a dataset, or rows are.
    """
    at = Location(str(path))
    try:
        import h5py
    except ImportError as error:
        raise DatabaseError(
            "h5py is not installed", remedy="Install it: pip install h5py", at=at
        ) from error
    try:
        with h5py.File(path, "r") as file:
            arrays = [_dataset(file, name, at) for name in names]
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise DatabaseError(
            f"the HDF5 library cannot read the file ({error})", "an HDF5 file",
            "Write it anew, or leave it out of the list.", at,
        ) from error  # fmt: skip
    if len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        found = ", ".join(
            f"{len(array)} in {name}" for array, name in zip(arrays, names, strict=True)
        )
        raise DatabaseError(f"rows: {found}", "as many in each, and one at least", "", at)
    return arrays


def _dataset(file: Any, name: str, at: Location) -> NDArray[np.float32]:
    held = ", ".join(file)
    dataset = file.get(name)
    if not hasattr(dataset, "shape") or not dataset.shape or dataset.dtype.kind not in "fiu":
        raise DatabaseError(
            f'no dataset "{name}" with rows of numbers',
            f"one for each top of the layer; the file holds {held or 'nothing'}",
            "",
            at,
        )
    if dataset.size > MAX_VALUES:
        raise DatabaseError(
            f'{dataset.size:,} values in "{name}"', f"at most {MAX_VALUES:,}",
            "Write several files, and list them.", at,
        )  # fmt: skip
    return dataset[...].astype(np.float32)


def _listed(listing: Path, root: Path) -> list[Path]:
    """The files in a list, whose names stand apart by any white space; all of them are there."""
    at = Location(str(listing))
    try:
        lines = listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DatabaseError(
            f"the list of HDF5 files cannot be read ({error.strerror})", "a text file",
            "Correct `source` in the layer's hdf5_data_param.", at,
        ) from error  # fmt: skip
    files = []
    for number, line in enumerate(lines, 1):
        for path in (root / name for name in line.split()):
            if not path.is_file():
                raise DatabaseError(
                    f"no file {path}", "an HDF5 file there",
                    f"Correct the line; names in it start from {root}, not from the list's folder.",
                    Location(str(listing), number),
                )  # fmt: skip
            files.append(path)
    if not files:
        raise DatabaseError("an empty list", "one HDF5 file at least", "List one per line.", at)
    return files
