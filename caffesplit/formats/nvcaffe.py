"""NVCaffe's weights (NVIDIA/caffe 0.15 to 0.17) as BVLC's Caffe needs them to compute the same.

Two things differ. Values may be stored raw, in half precision (see `blobs`); and a BatchNorm may
have five blobs, of which scale and bias are a Scale layer's in BVLC's Caffe. Its statistics are
averages as they stand, whatever the third blob says; BVLC's Caffe divides them by that blob.

Source: BatchNormLayer::{LayerSetUp,Forward_cpu}, src/caffe/layers/batch_norm_layer.cpp, and
Net::CopyTrainedLayersFrom, src/caffe/net.cpp, of NVIDIA/caffe v0.15.14, v0.16.1 and v0.17.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from caffesplit.errors import Location, WeightsError
from caffesplit.formats import nvcaffe_net
from caffesplit.formats.blobs import Array, BlobRecord
from caffesplit.formats.caffemodel import LayerRecord, LayerWeights, Weights
from caffesplit.formats.prototxt import Message
from caffesplit.formats.wire import NOT_CAFFES

UNSCALED, SCALED = 3, 5
"""Blobs of a BatchNorm without and with scale and bias."""

SCALED_NORM = "BatchNorm layers with scale and bias → BatchNorm and Scale"
FACTOR = "BatchNorm layers' third blob, which NVCaffe does not heed → 1"
"""Changes, beside those of `_stored`."""


@dataclass(frozen=True)
class Conversion:
    """What makes a model BVLC's.

    Attributes:
        replacements: what takes the place of layers in the weight file.
        scales: the name of the Scale layer behind each BatchNorm that had scale and bias.
        tree: the converted net, if one was given.
        notes: a line on each kind of change.
    """

    replacements: Mapping[str, tuple[LayerWeights, ...]]
    scales: Mapping[str, str]
    tree: Message | None
    notes: tuple[str, ...]


def convert(weights: Weights, tree: Message | None = None) -> Conversion:
    """What makes `weights`, and the net in `tree` that goes with them, BVLC's.

    A Scale layer is called `<BatchNorm's name>_scale`, in both alike; where a layer has that
    name already, with underscores behind it.

    Raises:
        WeightsError: if the blobs of a BatchNorm do not belong together, or to the net.
        NetError, PrototxtError: if the net is not one that can be converted.
    """
    records = _records(weights)
    held = [each.name for each in records if _is_batch_norm(each) and len(each.blobs) == SCALED]
    asked = nvcaffe_net.scaled(tree) if tree else ()
    for name in asked:
        if name in weights and name not in held:
            raise WeightsError(
                f"{len(weights[name])} blobs, and a net that asks for scale and bias",
                f"{SCALED} blobs",
                "Weights and net must belong together.",
                Location(weights.index.path, layer=name),
            )
    taken = {layer.name for layer in weights.index.layers}
    if tree:
        taken |= nvcaffe_net.layer_names(tree)
    scales = _scale_names(dict.fromkeys([*held, *asked]), taken)
    changes = Counter[str]()
    replacements = {}
    for record in records:
        new = _converted(weights, record, scales, changes)
        if new:
            replacements[record.name] = new
    notes = tuple(_notes(changes))
    if tree:
        is_told = FACTOR in changes or any(blob.raw for each in records for blob in each.blobs)
        tree, net_notes = nvcaffe_net.convert(tree, scales, is_told)
        notes += net_notes
    return Conversion(replacements, scales, tree, notes)


def _converted(
    weights: Weights, record: LayerRecord, scales: Mapping[str, str], changes: Counter[str]
) -> tuple[LayerWeights, ...]:
    """What takes the place of a layer; nothing if it can stay as it is."""
    stored = [kind for kind in map(_stored, record.blobs) if kind]
    changes.update(stored)
    if not _is_batch_norm(record):
        return (weights.layer(record.name),) if stored else ()
    layer = weights.layer(record.name)
    blobs = _in_order(layer.blobs, Location(weights.index.path, layer=record.name))
    (factor,) = blobs[2]
    is_scaled = len(blobs) == SCALED
    # BVLC's Caffe writes a factor of 0 only beside statistics of 0.
    is_average = is_scaled or any(blob.raw for blob in record.blobs) or not factor
    if is_average and factor != 1 and any(blob.any() for blob in blobs[:2]):
        changes[FACTOR] += 1
        blobs[2] = np.ones(1, np.float32)
    elif not (stored or is_scaled):
        return ()
    own = replace(layer, blobs=tuple(blobs[:UNSCALED]))
    if not is_scaled:
        return (own,)
    changes[SCALED_NORM] += 1
    return own, LayerWeights(scales[record.name], "Scale", tuple(blobs[UNSCALED:]))


def _scale_names(batch_norms: Iterable[str], taken: set[str]) -> dict[str, str]:
    """A name that is not `taken` for the Scale layer behind each BatchNorm layer."""
    names = {}
    for batch_norm in batch_norms:
        name = f"{batch_norm}_scale"
        while name in taken:
            name += "_"
        taken.add(name)
        names[batch_norm] = name
    return names


def _notes(changes: Counter[str]) -> Iterator[str]:
    for change, count in sorted(changes.items()):
        yield f"{change}: {count:,}"


def _records(weights: Weights) -> list[LayerRecord]:
    """The layers with blobs, of each name the last one. V0 is older than any NVCaffe."""
    records = {record.name: record for record in weights.index.layers if record.blobs}
    return [record for record in records.values() if record.version]


def _stored(blob: BlobRecord) -> str:
    """The change to a blob that is stored otherwise than as float32 `data`, in words."""
    if blob.raw:
        return f"blobs of {blob.dtype} in raw_data → float32 in data"
    return "" if blob.dtype == np.float32 else f"blobs of {blob.dtype} → float32"


def _is_batch_norm(record: LayerRecord) -> bool:
    """Whether the layer is a BatchNorm; HDF5 does not tell, so there its shapes do."""
    if record.type:
        return record.type == nvcaffe_net.BATCH_NORM and len(record.blobs) in (UNSCALED, SCALED)
    shapes = [blob.shape for blob in record.blobs]
    each = shapes[0]
    return len(each) == 1 and shapes in (
        [each, each, (1,)],
        [each, each, (1,), each, each],
        [each, each, each, each, (1,)],
    )


def _in_order(blobs: Sequence[Array], at: Location) -> list[Array]:
    """Mean, variance and factor, and scale and bias if they are there, with one axis each.

    NVCaffe 0.15 (and with it, DIGITS) wrote scale, bias, mean, variance, factor; later ones
    tell such a file, as here, by the one value of its last blob.
    """
    flat = [blob.reshape(-1) for blob in blobs]
    if len(flat) == SCALED and flat[4].size == 1:
        scale, bias, mean, variance, factor = flat
        flat = [mean, variance, factor, scale, bias]
    sizes = [blob.size for blob in flat]
    channels = sizes[0]
    if sizes != [channels, channels, 1, channels, channels][: len(sizes)]:
        raise WeightsError(
            f"a BatchNorm's blobs of {', '.join(str(blob.size) for blob in blobs)} values",
            "as many in each as there are channels, and 1 in the factor",
            NOT_CAFFES,
            at,
        )
    return flat
