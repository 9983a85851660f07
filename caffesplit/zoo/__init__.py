"""Nets and solvers that ship with the package: those of the notebooks, and a small one to try."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from caffesplit.errors import NetError
from caffesplit.formats import prototxt
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Field, Message, Scalar, quote


@dataclass(frozen=True)
class Entry:
    """What there is to know of a net before one trains it.

    Attributes:
        dataset: its name among people.
        parameters: values that training changes; BatchNorm's statistics are none.
        source: of net and hyper-parameters; section and table stand in the prototxts.
        notebooks: what the notebooks did with it.
        data: the options of `caffesplit data` that its data needs, the data set's verb first.
        lsuv: whether it starts from `caffesplit lsuv`.
    """

    dataset: str
    parameters: int
    source: str
    notebooks: str
    data: str
    lsuv: bool = False

    @property
    def data_name(self) -> str:
        """A name for the folder of its data, which tells how that was prepared."""
        return self.data.replace(" --", "-").replace(" ", "")


NETS: Mapping[str, Entry] = MappingProxyType(
    {
        "fitnet4": Entry(
            "CIFAR-100",
            1_321_896,
            "Romero et al. 2015; Mishkin & Matas 2016",
            "000: TPM split against random split; 001: residual and extension chains",
            "cifar100 --gcn --pad 4",
            lsuv=True,
        ),
        "resnet20": Entry(
            "CIFAR-100",
            275_572,
            "He et al. 2016",
            "002: nine splits at once, from 50K; skip splits",
            "cifar100 --pad 4",
        ),
        "allcnn": Entry(
            "CIFAR-10",
            1_369_738,
            "Springenberg et al. 2015",
            "003: the layers of highest TPM entropy split, twice",
            "cifar10 --gcn --zca --pad 5",
        ),
        "inception_small": Entry(
            "CIFAR-10",
            1_649_402,
            "Zhang et al. 2017",
            "004: TPM and norms with true and with shuffled labels",
            "cifar10",
        ),
        "digits": Entry(
            "handwritten digits", 17_722, "this package", "none: to try things on", "digits"
        ),
    }
)

NAMES = tuple(NETS)

FILES = ("solver.prototxt", "train_val.prototxt", "deploy.prototxt")

DATA_FIELDS = ("source", "mean_file")
"""Fields of the nets that name what `caffesplit data` writes."""


def entry(name: str) -> Entry:
    """What there is to know of a net.

    Raises:
        NetError: if there is no such net.
    """
    if name not in NETS:
        raise NetError(f'no net "{name}" in the zoo', f"one of {', '.join(NAMES)}")
    return NETS[name]


def write(
    name: str, folder: Path | str, root: Path | str, data: Path | str, *, force: bool = False
) -> Path:
    """Write the experiment `name` into `folder`, ready to train; return its solver's path.

    The solver names its files relative to `root`, the folder that Caffe is to be called from; the
    snapshots go into `folder`, the databases are expected in the folder `data`.

    Raises:
        NetError: if there is no such net.
        OutputError: if `folder` holds these files already and `force` is false.
    """
    entry(name)
    folder = Path(folder)
    here, there = os.path.relpath(folder, root), os.path.relpath(data, root)
    trees = {file: _tree(name, file) for file in FILES}
    trees["solver.prototxt"] = (
        trees["solver.prototxt"]
        .with_field_set("net", quote(f"{here}/train_val.prototxt"))
        .with_field_set("snapshot_prefix", quote(f"{here}/{name}"))
    )
    trees["train_val.prototxt"] = _with_data_in(there, trees["train_val.prototxt"])
    with replacing(*(folder / file for file in FILES), force=force) as staged:
        for path, tree in zip(staged, trees.values(), strict=True):
            path.write_bytes(prototxt.encode(tree))
    return folder / "solver.prototxt"


def _tree(name: str, file: str) -> Message:
    resource = files("caffesplit.zoo") / name / file
    return prototxt.parse(resource.read_text(encoding="utf-8"), f"zoo/{name}/{file}")


def _with_data_in(folder: str, net: Message) -> Message:
    """The net with all the data it names in `folder`, under its own name."""

    def moved(field: Field) -> Field:
        if field.name not in DATA_FIELDS:
            return field
        return field.with_value(Scalar(quote(f"{folder}/{Path(field.as_string()).name}")))

    return net.transformed(moved)
