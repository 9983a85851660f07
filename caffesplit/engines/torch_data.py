"""Data layers: where their batches come from, in Caffe's order.

    source(layer, "TRAIN", root, random).next()  →  {"data": (N, C, H, W), "label": (N,)}

Every source is strictly sequential and starts over at its end.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Protocol

import torch

from caffesplit.engines.caffe_random import Random, endless
from caffesplit.engines.torch_data_dummy import Dummy
from caffesplit.engines.torch_data_hdf5 import Rows
from caffesplit.engines.torch_data_images import Images, decoded, listed, read_listed
from caffesplit.engines.torch_data_transform import Image, Transform
from caffesplit.errors import DatabaseError, Location, NetError
from caffesplit.formats import database
from caffesplit.formats.leveldb import is_leveldb
from caffesplit.formats.lmdb_pages import Pages
from caffesplit.formats.prototxt import quote
from caffesplit.net.graph import Layer
from caffesplit.net.partial import Refused, expect_blob

Batch = dict[str, torch.Tensor]


class Source(Protocol):
    """A data layer's batches: blob name → float32 tensor; `shapes` are the first one's."""

    shapes: dict[str, tuple[int, ...]]

    def next(self) -> Batch: ...


@dataclass(frozen=True)
class Share:
    """The part of the items that one of several processes takes: every `count`-th."""

    rank: int = 0
    count: int = 1


ALONE = Share()


def source(layer: Layer, phase: str, root: Path, random: Random, share: Share = ALONE) -> Source:
    """The batches of a data layer.

    Its paths start from `root`; `random` is the net's, which data layers draw their seeds from in
    the order of the layers. `share` counts in TRAIN only: tests are run by the first process.

    Raises:
        NetError: if nothing can feed the layer, or its parameters do not fit each other.
        DatabaseError: if its data is missing or damaged.
    """
    own = share if phase == "TRAIN" else ALONE
    opened = SOURCES[layer.type](layer, phase, root, random, own)
    for shape in opened.shapes.values():
        try:
            expect_blob(shape)
        except Refused as refused:
            raise NetError(f"layer {layer.name!r}: {refused.message}", at=layer.location) from None
    return opened


def _data(layer: Layer, phase: str, root: Path, random: Random, share: Share) -> Source:
    folder = _lmdb(layer, root)
    transform = Transform(layer, phase, root, random)
    transform.reseed()
    stream = _datums(folder, share, _forced_color(layer))
    return Images(layer, stream, _batch_size(layer, layer.message.data_param), transform)


def _lmdb(layer: Layer, root: Path) -> Path:
    """The folder of the LMDB that the layer reads."""
    param = layer.message.data_param
    folder = root / param.source
    if is_leveldb(folder):
        new = _as_lmdb(param.source)
        raise NetError(
            f"layer {layer.name!r} reads a LevelDB",
            "an LMDB",
            f"Copy its records into one, in the folder {root}:\n"
            f"    caffesplit data lmdb {shlex.quote(param.source)} -o {shlex.quote(new)}\n"
            "and write into the layer's data_param, in place of its own source and backend:\n"
            f"    source: {quote(new)} backend: LMDB",
            layer.location,
        )
    if not database.count(folder):
        raise DatabaseError("an LMDB without records", "one image at least", "", _at(folder))
    if param.backend != param.LMDB:
        raise NetError(
            f"layer {layer.name!r} reads a LevelDB, by default, and its source is an LMDB",
            "backend: LMDB",
            "Write that into its data_param.",
            layer.location,
        )
    return folder


def _as_lmdb(source: str) -> str:
    """The name for an LMDB of the records of the LevelDB `source`."""
    name = source.rstrip("/")
    stem = name.removesuffix("leveldb")
    return f"{name}_lmdb" if stem == name else f"{stem}lmdb"


def _datums(folder: Path, share: Share, color: bool | None) -> Iterator[tuple[Image, int]]:
    """Image and label of every record of the share, without end."""
    rounds = repeat(Pages(folder / database.DATA_FILE))
    records = chain.from_iterable(rounds)
    for key, value in islice(records, share.rank, None, share.count):
        datum = database.parse(key, value, folder)
        if datum.encoded:
            at = Location(f"{folder}: record {key.decode(errors='replace')!r}")
            yield decoded(datum.data, color, at), datum.label
        else:
            yield database.pixels(datum), datum.label


def _forced_color(layer: Layer) -> bool | None:
    param = layer.message.transform_param
    if param.force_color and param.force_gray:
        raise NetError(
            f"layer {layer.name!r} with force_color and force_gray", "one of them",
            at=layer.location,
        )  # fmt: skip
    return bool(param.force_color) if param.force_color or param.force_gray else None


def _image_data(layer: Layer, phase: str, root: Path, random: Random, share: Share) -> Source:
    param = layer.message.image_data_param
    if bool(param.new_height) != bool(param.new_width):
        raise NetError(
            f"layer {layer.name!r} with one of new_height and new_width", "both or none",
            at=layer.location,
        )  # fmt: skip
    transform = Transform(layer, phase, root, random)
    listing = root / param.source
    lines = listed(listing)
    order = Random(random.draw()) if param.shuffle else None
    if order is not None:
        order.shuffle(lines)
    skipped = random.draw() % param.rand_skip if param.rand_skip else 0
    if skipped >= len(lines):
        raise NetError(
            f"layer {layer.name!r} skips {skipped} of {len(lines)} images", "to skip fewer",
            "Lower rand_skip.", layer.location,
        )  # fmt: skip
    transform.reseed()
    stream = (
        (read_listed(layer, root, image, Location(str(listing), image.line)), image.label)
        for image in islice(endless(lines, order, skipped), share.rank, None, share.count)
    )
    return Images(layer, stream, _batch_size(layer, param), transform)


def _hdf5_data(layer: Layer, phase: str, root: Path, random: Random, share: Share) -> Source:
    if layer.message.HasField("transform_param"):
        raise NetError(
            f"layer {layer.name!r} with transform_param", "none: HDF5Data does not transform",
            at=layer.location,
        )  # fmt: skip
    param = layer.message.hdf5_data_param
    order = Random(random.draw()) if param.shuffle else None
    size = _batch_size(layer, param)
    return Rows(root / param.source, root, layer.tops, size, order, (share.rank, share.count))


def _unfed(layer: Layer, phase: str, root: Path, random: Random, share: Share) -> Source:
    raise NetError(
        f"layer {layer.name!r} of type {layer.type}, which only a program can feed",
        "Data, ImageData, HDF5Data or DummyData",
        "Train with a net whose data is in files.",
        layer.location,
    )


def _dummy_data(layer: Layer, phase: str, root: Path, random: Random, share: Share) -> Source:
    return Dummy(layer, torch.Generator().manual_seed(random.draw()))


def _batch_size(layer: Layer, param: Any) -> int:
    if param.batch_size < 1:
        raise NetError(
            f"layer {layer.name!r} with batch_size {param.batch_size}", "1 or more",
            at=layer.location,
        )  # fmt: skip
    return int(param.batch_size)


def _at(path: Path) -> Location:
    return Location(str(path))


SOURCES: Mapping[str, Callable[[Layer, str, Path, Random, Share], Source]] = {
    "Data": _data,
    "DummyData": _dummy_data,
    "HDF5Data": _hdf5_data,
    "ImageData": _image_data,
    "Input": _unfed,
    "MemoryData": _unfed,
}
