"""The data that a study's nets learn from, prepared where it is not there yet."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffesplit import zoo
from caffesplit.data import cifar, digits, labels
from caffesplit.data.prepare import Preparation, Progress, silent
from caffesplit.errors import Location, StudyError
from caffesplit.experiment import Experiment
from caffesplit.formats import database
from caffesplit.net.sources import named_paths

CIFAR = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}


def prepared(
    entry: zoo.Entry,
    data: Path,
    cache: Path,
    archives: Sequence[Path] = (),
    progress: Progress = silent,
) -> Path:
    """The folder below `data` with the LMDBs that a net of the zoo needs; written if need be.

    CIFAR comes from that of `archives` that is its own, or is downloaded into `cache`.

    Raises:
        DatabaseError: if an archive is damaged, or cannot be downloaded.
    """
    name, *options = entry.data.split()
    folder = data / entry.data_name
    if (folder / f"{name}_test_lmdb" / database.DATA_FILE).exists():
        return folder
    preparation = _preparation(options)
    if name in CIFAR:
        dataset = CIFAR[name]
        given = next((path for path in archives if _is_of(path, name)), None)
        source = given or cifar.download(dataset, cache, progress)
        cifar.write(dataset, source, folder, preparation, progress=progress)
    else:
        digits.write(folder, preparation=preparation, progress=progress)
    return folder


def _is_of(archive: Path, name: str) -> bool:
    """Whether an archive, or a folder, is the CIFAR of this name, as its own name tells."""
    return archive.name.replace("-", "").replace("_", "").startswith((f"{name}b", f"{name}."))


def _preparation(options: list[str]) -> Preparation:
    """What the options of `caffesplit data` ask for."""
    pad = int(options[options.index("--pad") + 1]) if "--pad" in options else 0
    return Preparation(gcn="--gcn" in options, zca="--zca" in options, pad=pad)


def shuffled(
    experiment: Experiment, data: Path, fraction: float, progress: Progress = silent
) -> dict[str, Path]:
    """Copies below `data`, with labels shuffled by seed 0, of what the experiment's net is
    trained on; by the paths that the net names.

    Raises:
        StudyError: if it is not trained on LMDBs, or image lists.
    """
    found: dict[str, Path] = {}
    for path in _training_sources(experiment):
        source = experiment.root / path
        # Differently prepared data has the same names.
        origin = zlib.crc32(bytes(source.resolve()))
        folder = data / f"shuffled-{fraction:g}-{origin:08x}"
        found[path] = folder / source.name
        if not found[path].exists():
            folder.mkdir(parents=True, exist_ok=True)
            labels.shuffle(source, found[path], 0, fraction, progress=progress)
    if not found:
        raise StudyError(
            "no layer that reads labels of its own",
            "Data or ImageData layers in training",
            "Leave out shuffle_labels.",
            Location(str(experiment.net_path)),
        )
    return found


def _training_sources(experiment: Experiment) -> Iterator[str]:
    readers = [layer for layer in experiment.train_layers if layer.type in ("Data", "ImageData")]
    return (path for field, path in named_paths(readers) if field.name == "source")
