"""Caffe's weight files: index them, map their arrays on access, write and splice them.

BINARYPROTO (NetParameter of every version) and HDF5 files read alike. Of two layers of one
name the last one counts, as in Caffe, which copies layer after layer by name
(Net::CopyTrainedLayersFrom, src/caffe/net.cpp).
"""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import Location, WeightsError
from caffesplit.formats import hdf5, solverstate
from caffesplit.formats.blobs import Array
from caffesplit.formats.layers import (
    VERSIONS,
    LayerBytes,
    LayerRecord,
    LayerWeights,
    index_layer,
)
from caffesplit.formats.output import replacing
from caffesplit.formats.pieces import write as write_pieces
from caffesplit.formats.wire import NOT_CAFFES, WireFile, check_size, encode_text, open_map

__all__ = [
    "LayerRecord",
    "LayerWeights",
    "ModelIndex",
    "Weights",
    "index",
    "read",
    "splice",
    "write",
]

NET_NAME = 1
"""Field number of NetParameter."""


@dataclass(frozen=True)
class ModelIndex:
    """What is where in a weight file of `size` bytes. In HDF5 only blobs have an offset."""

    path: str
    size: int
    name: str
    layers: tuple[LayerRecord, ...]
    hdf5: bool = False


class Weights(Mapping[str, list[Array]]):
    """The blobs of the layers that have any, by layer name, mapped read-only on access: float32
    (float16 is made so) or float64."""

    def __init__(self, index: ModelIndex, buffer: mmap.mmap) -> None:
        self.index = index
        self._buffer = buffer
        self._layers = {layer.name: layer for layer in index.layers if layer.blobs}

    def __getitem__(self, name: str) -> list[Array]:
        return [blob.array(self._buffer) for blob in self._layers[name].blobs]

    def layer(self, name: str) -> LayerWeights:
        """A layer to be written anew: values as they are stored, float16 too, shapes of today.

        Raises:
            WeightsError: if it is a V0 layer.
        """
        record = self._layers[name]
        if record.version == 0:
            raise _v0_layer(Location(self.index.path, layer=name))
        return LayerWeights(
            name,
            record.type,
            tuple(
                blob.view(self._buffer).reshape(shape)
                for blob, shape in zip(record.blobs, record.shapes, strict=True)
            ),
            b"".join(self._buffer[others.start : others.stop] for others in record.others),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def index(path: Path | str) -> ModelIndex:
    """Index a weight file, BINARYPROTO or HDF5, and check the whole of it.

    Raises:
        WeightsError: if it is damaged, of another kind, or larger than Caffe reads.
    """
    return _index(str(path), open_map(path))


def read(path: Path | str) -> Weights:
    """Map a weight file: layer name → list of arrays, float32 (float64 from `double_data`).

    Raises:
        WeightsError: as in `index`; the file is checked before an array is handed out.
    """
    buffer = open_map(path)
    return Weights(_index(str(path), buffer), buffer)


def write(
    path: Path | str, layers: Iterable[LayerWeights], name: str = "", force: bool = False
) -> None:
    """Write a weight file of today's version, float32: HDF5 where `path` ends in `.h5`, else
    BINARYPROTO. For HDF5, layers are taken one after the other, and need not exist before.

    Raises:
        OutputError: if `path` exists and `force` is false, or a BINARYPROTO file would outgrow
            Caffe, which is found out before anything is written.
        WeightsError: where HDF5 cannot hold a layer of that name.
    """
    _write(path, layers, name, force)


def splice(
    source: Path | str,
    destination: Path | str,
    replacements: Mapping[str, Sequence[LayerWeights]],
    force: bool = False,
) -> None:
    """Copy a weight file with some of its layers replaced, each by any number of new ones.

    New layers stand where the first record of the old name stood, in that record's version;
    everything else is copied byte for byte. Between BINARYPROTO and HDF5, which the destination's
    name asks for by `.h5` at its end, the layers with blobs are written anew.

    Raises:
        WeightsError: if the source is bad or lacks a layer that is to be replaced.
        OutputError: if `destination` is the source, exists and `force` is false, or would
            outgrow Caffe.
    """
    weights = read(source)
    _check_names(weights.index, replacements)
    if weights.index.hdf5 or hdf5.is_wanted(destination):
        layers = _with_replacements(weights, replacements)
        _write(destination, layers, weights.index.name, force, inputs=[source])
        return
    pieces = _pieces(weights.index, replacements)
    check_size(sum(map(len, pieces)), destination)
    with (
        replacing(destination, force=force, inputs=[source]) as (staged,),
        staged.open("wb") as file,
    ):
        write_pieces(pieces, source, file)


def _write(
    path: Path | str,
    layers: Iterable[LayerWeights],
    name: str,
    force: bool,
    inputs: Iterable[Path | str] = (),
) -> None:
    if hdf5.is_wanted(path):
        with replacing(path, force=force, inputs=inputs) as (staged,):
            hdf5.write_layers(staged, layers, Location(str(path)))
        return
    head = encode_text(NET_NAME, name) if name else b""
    encoded = [LayerBytes(layer, version=2) for layer in layers]
    check_size(len(head) + sum(map(len, encoded)), path)
    with replacing(path, force=force, inputs=inputs) as (staged,), staged.open("wb") as file:
        file.write(head)
        for record in encoded:
            record.write(file)


def _index(path: str, buffer: mmap.mmap) -> ModelIndex:
    try:
        return _indexed(path, buffer)
    except WeightsError:
        _refuse_state(Path(path))
        raise


def _refuse_state(path: Path) -> None:
    """Say so, if what is no weight file is a solver state."""
    try:
        state = solverstate.read(path)
    except WeightsError:
        return
    if not state.learned_net:
        return
    stem = path.name.removesuffix(".h5").removesuffix(".solverstate")
    beside = (path.with_name(f"{stem}.caffemodel{ending}") for ending in ("", ".h5"))
    weights = next((str(each) for each in beside if each.is_file()), state.learned_net)
    raise WeightsError(
        f"this is a solver state, of iteration {state.iteration}",
        "weights: a caffemodel",
        f"Its weights are {weights}",
        Location(str(path)),
    ) from None


def _indexed(path: str, buffer: mmap.mmap) -> ModelIndex:
    if buffer[: len(hdf5.MAGIC)] == hdf5.MAGIC:
        return ModelIndex(path, len(buffer), "", hdf5.index_layers(path, len(buffer)), hdf5=True)
    name, layers = _index_net(WireFile(path, buffer))
    return ModelIndex(path, len(buffer), name, layers)


def _index_net(file: WireFile) -> tuple[str, tuple[LayerRecord, ...]]:
    """Name and layers of the NetParameter that fills the file."""
    at = Location(file.path)
    name = ""
    layers = []
    versions = {VERSIONS[version].layer: version for version in (1, 2)}
    for field in file.fields(0, file.size, at):
        if field.number == NET_NAME:
            name = file.text(field, at)
        elif field.number in versions:
            layers.append(index_layer(file, field, versions[field.number], at))
    if not layers:
        raise WeightsError("the file holds no layers", "a net's weights", NOT_CAFFES, at)
    return name, tuple(layers)


def _check_names(index: ModelIndex, replacements: Mapping[str, Sequence[LayerWeights]]) -> None:
    """Raise WeightsError unless every replaced layer can be."""
    versions = {layer.name: layer.version for layer in index.layers}
    for name in replacements:
        at = Location(index.path, layer=name)
        if name not in versions:
            close = difflib.get_close_matches(name, versions, n=1)
            raise WeightsError(
                "no such layer in the weights",
                f'one of them, such as "{close[0]}"' if close else "one of them",
                "Weights and net must belong together.",
                at,
            )
        if versions[name] == 0:
            raise _v0_layer(at)


def _v0_layer(at: Location) -> WeightsError:
    return WeightsError(
        "a V0 layer cannot be replaced",
        "a file of V1 or newer",
        "Upgrade the file first (`caffesplit upgrade`).",
        at,
    )


def _pieces(
    index: ModelIndex, replacements: Mapping[str, Sequence[LayerWeights]]
) -> list[range | LayerBytes]:
    """The new file in order: byte ranges of the old one, and new layers."""
    pieces: list[range | LayerBytes] = []
    position = 0
    placed: set[str] = set()
    for layer in index.layers:
        if layer.name not in replacements:
            continue
        pieces.append(range(position, layer.offset))
        position = layer.offset + layer.length
        if layer.name not in placed:
            pieces += [LayerBytes(new, layer.version) for new in replacements[layer.name]]
            placed.add(layer.name)
    return [*pieces, range(position, index.size)]


def _with_replacements(
    weights: Weights, replacements: Mapping[str, Sequence[LayerWeights]]
) -> Iterator[LayerWeights]:
    """The layers of a file that have blobs, replaced ones among them, each name once."""
    for name in dict.fromkeys(layer.name for layer in weights.index.layers):
        if name in replacements:
            yield from replacements[name]
        elif name in weights:
            yield weights.layer(name)
