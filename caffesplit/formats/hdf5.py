"""Caffe's HDF5 snapshots: indexed for mapping, and written.

Caffe writes every blob as one contiguous little-endian dataset (hdf5_save_nd_dataset,
src/caffe/util/hdf5.cpp), so its values can be mapped like any other file's; the HDF5 library
is only asked where they are. Groups: `data/LAYER/0`, `1`, … (Net::ToHDF5, src/caffe/net.cpp).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from caffesplit.errors import Location, WeightsError
from caffesplit.formats.blobs import Array, BlobRecord, Chunk, as_float32, check_blob
from caffesplit.formats.layers import LayerRecord, LayerWeights
from caffesplit.formats.wire import DAMAGED, MAX_NAME_BYTES, NOT_CAFFES

MAGIC = b"\x89HDF\r\n\x1a\n"

SUFFIX = ".h5"
"""What the name of a file to be written ends in where HDF5 is wanted, as Caffe's own do."""

FLOATS = (np.dtype("<f4"), np.dtype("<f8"))

MAX_OBJECTS = 100_000
"""Groups and datasets in one file."""

MAX_DEPTH = 32
"""Groups inside each other: slashes in a layer's name."""


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open an HDF5 file; what the library finds wrong with it is raised as WeightsError."""
    at = Location(path)
    h5py = h5py_for(at)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"the HDF5 library cannot read the file ({error})", remedy=DAMAGED, at=at
        ) from error


@contextmanager
def created(path: Path, at: Location) -> Iterator[Any]:
    """Create an HDF5 file, which `at` names; what the system refuses is raised as OSError."""
    h5py = h5py_for(at)
    try:
        with h5py.File(path, "w") as file:
            yield file
    except (OSError, RuntimeError) as error:
        # Of many a failed write the library tells the number in its message alone.
        told = re.search(r"errno = (\d+)", str(error))
        number = int(told[1]) if told else getattr(error, "errno", None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), at.path) from error


def h5py_for(at: Location) -> Any:
    """The module h5py; WeightsError about the file at `at` where it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            "the file is HDF5, and h5py is not installed",
            remedy="Install it: pip install h5py",
            at=at,
        ) from error
    return h5py


def is_wanted(path: Path | str) -> bool:
    """Whether a file to be written is to be HDF5: its name tells."""
    return str(path).endswith(SUFFIX)


def index_layers(path: str, size: int) -> tuple[LayerRecord, ...]:
    """Index the layers with blobs of a `.caffemodel.h5` of `size` bytes, in order of names.

    Raises:
        WeightsError: if it is damaged, or no weight file of Caffe.
    """
    at = Location(path)
    with opened(path) as file:
        layers = _datasets(file, "data", at)
        if not layers:
            raise WeightsError("the file holds no blobs", "a net's weights", NOT_CAFFES, at)
        return tuple(
            LayerRecord(name, "", 0, 0, 2, _index_blobs(datasets, size, replace(at, layer=name)))
            for name, datasets in layers.items()
        )


def index_group(file: Any, group: str, size: int, at: Location) -> tuple[BlobRecord, ...]:
    """Index the datasets `0`, `1`, … of one group in an HDF5 file of `size` bytes.

    Raises:
        WeightsError: if one is missing, or is no plain array inside the file.
    """
    return _index_blobs(_datasets(file, group, at).get("", {}), size, at)


def read_integer(file: Any, name: str, at: Location) -> int:
    """The one integer in dataset `name`.

    Raises:
        WeightsError: if there is anything else.
    """
    dataset = _member(file, name, at)
    if not _is_plain(dataset, "iu") or dataset.size != 1:
        _refuse(name, "an integer", at)
    return int(dataset[()].item())


def read_text(file: Any, name: str, at: Location) -> str:
    """The string in dataset `name`, empty where there is none. Bytes that are not UTF-8 come
    out escaped.

    Raises:
        WeightsError: if there is anything else, or it is longer than a path can be.
    """
    dataset = _member(file, name, at)
    if dataset is None:
        return ""
    if not _is_plain(dataset, "S") or dataset.size != 1 or dataset.nbytes > MAX_NAME_BYTES:
        _refuse(name, f"a string of at most {MAX_NAME_BYTES:,} bytes", at)
    return bytes(dataset[()].item()).decode("utf-8", "backslashreplace")


def write_layers(path: Path, layers: Iterable[LayerWeights], at: Location) -> None:
    """Write a `.caffemodel.h5`, float32, blob after blob; `at` names it.

    Raises:
        WeightsError: where a name is none in HDF5, or comes twice.
        OSError: if there is no room.
    """
    with created(path, at) as file:
        data = file.create_group("data")
        for layer in layers:
            _check_name(layer.name, data, replace(at, layer=layer.name))
            write_blobs(data.create_group(layer.name), layer.blobs)


def _check_name(name: str, data: Any, at: Location) -> None:
    if name in ("", ".") or set("/\0") & set(name):
        raise WeightsError(
            "HDF5 takes a layer's name for a path, in which Caffe does not find this one",
            'a name without "/"',
            "Write a `.caffemodel` without `.h5`, or rename the layer in net and weights.",
            at,
        )
    if name in data:
        raise WeightsError(
            "two layers of one name", "one: HDF5 has no place for another", "Rename one.", at
        )


def write_blobs(group: Any, blobs: Sequence[Array]) -> None:
    """Write blobs as datasets `0`, `1`, … of a group, float32."""
    for number, blob in enumerate(blobs):
        group.create_dataset(str(number), data=as_float32(blob))


def write_text(file: Any, name: str, text: str) -> None:
    """Write a string as dataset `name`, ended by the zero up to which Caffe reads."""
    encoded = text.encode()
    file.create_dataset(name, data=np.array(encoded, f"S{len(encoded) + 1}"))


def write_integer(file: Any, name: str, value: int) -> None:
    """Write an int as dataset `name`."""
    file.create_dataset(name, data=np.array([value], "<i4"))


def _is_plain(dataset: Any, kinds: str) -> bool:
    """Whether it is a dataset of a type of those kinds whose values lie in the file as they are.

    What is chunked can be small in the file and large in memory; what is external can block.
    """
    from h5py import Dataset

    return (
        isinstance(dataset, Dataset)
        and dataset.shape is not None
        and dataset.dtype.kind in kinds
        and dataset.chunks is None
        and dataset.id.get_offset() is not None
    )


def _refuse(name: str, expected: str, at: Location) -> NoReturn:
    raise WeightsError(f'something else in "{name}"', expected, NOT_CAFFES, at)


def _member(group: Any, name: str, at: Location) -> Any:
    """The member `name` of a group, or None. A link to somewhere else is none of Caffe's."""
    from h5py import HardLink

    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, HardLink):
        raise WeightsError(
            f'"{name}" in "{group.name}" is a link',
            "the data themselves",
            "Copy what it leads to in its place; Caffe writes no links.",
            at,
        )
    return group[name]


def _datasets(file: Any, root: str, at: Location) -> dict[str, dict[str, Any]]:
    """The datasets under group `root`: by the path of their group, then by their own name.

    A layer whose name holds slashes has its group further down.
    """
    from h5py import Dataset, Group

    top = _member(file, root, at)
    if not isinstance(top, Group):
        raise WeightsError(f'no group "{root}"', "a snapshot of Caffe", NOT_CAFFES, at)
    found: dict[str, dict[str, Any]] = {}
    left, seen = [("", top)], 0
    while left:
        path, group = left.pop()
        seen += len(group)
        if seen > MAX_OBJECTS:
            _refuse_objects(f"more than {MAX_OBJECTS:,} objects", at)
        if path.count("/") >= MAX_DEPTH:
            _refuse_objects(f"groups inside {MAX_DEPTH} others", at)
        for name in sorted(group):
            item = _member(group, name, at)
            if isinstance(item, Dataset):
                found.setdefault(path, {})[name] = item
            elif isinstance(item, Group):
                left.append((f"{path}/{name}".lstrip("/"), item))
    return dict(sorted(found.items()))


def _refuse_objects(found: str, at: Location) -> NoReturn:
    raise WeightsError(found, "a snapshot of Caffe", NOT_CAFFES, at)


def _index_blobs(datasets: dict[str, Any], size: int, at: Location) -> tuple[BlobRecord, ...]:
    """Index the datasets of a layer, which are named by their number."""
    names = [str(number) for number in range(len(datasets))]
    for name in names:
        if name not in datasets:
            raise WeightsError(
                f'dataset "{name}" is missing beside "{min(datasets)}"',
                "all blobs of the layer",
                "HDF5 leaves out blobs shared from another layer: snapshot as BINARYPROTO.",
                at,
            )
    return tuple(
        _index_dataset(datasets[name], size, replace(at, blob=int(name))) for name in names
    )


def _index_dataset(dataset: Any, size: int, at: Location) -> BlobRecord:
    """Index a dataset that lies in one piece, as Caffe writes them."""
    offset = dataset.id.get_offset()
    if dataset.dtype not in FLOATS or dataset.shape is None or (dataset.size and offset is None):
        raise WeightsError(
            f"a dataset of {dataset.dtype} that is chunked, compressed or elsewhere",
            "float32 or float64 in one piece, as Caffe writes it",
            "Rewrite the file with `h5repack -l CONTI -f NONE`.",
            at,
        )
    if dataset.size and offset + dataset.nbytes > size:
        raise WeightsError(
            f"{dataset.nbytes:,} bytes of values from byte {offset:,} on",
            f"all within the file's {size:,}",
            DAMAGED,
            at,
        )
    chunks = (Chunk(offset, dataset.size, dataset.dtype.itemsize),) if dataset.size else ()
    record = BlobRecord(dataset.shape, dataset.dtype, chunks)
    check_blob(record, at)
    return record
