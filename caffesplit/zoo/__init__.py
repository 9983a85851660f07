"""Nets and solvers that ship with the package."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from caffesplit.errors import NetError
from caffesplit.formats import prototxt
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Field, Message, Scalar, quote

NAMES = ("digits",)

FILES = ("solver.prototxt", "train_val.prototxt", "deploy.prototxt")


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
    if name not in NAMES:
        raise NetError(f'no net "{name}" in the zoo', f"one of {', '.join(NAMES)}")
    folder = Path(folder)
    here, there = os.path.relpath(folder, root), os.path.relpath(data, root)
    trees = {file: _tree(name, file) for file in FILES}
    trees["solver.prototxt"] = (
        trees["solver.prototxt"]
        .with_field_set("net", quote(f"{here}/train_val.prototxt"))
        .with_field_set("snapshot_prefix", quote(f"{here}/{name}"))
    )
    trees["train_val.prototxt"] = _with_sources_in(there, trees["train_val.prototxt"])
    with replacing(*(folder / file for file in FILES), force=force) as staged:
        for path, tree in zip(staged, trees.values(), strict=True):
            path.write_bytes(prototxt.encode(tree))
    return folder / "solver.prototxt"


def _tree(name: str, file: str) -> Message:
    resource = files("caffesplit.zoo") / name / file
    return prototxt.parse(resource.read_text(encoding="utf-8"), f"zoo/{name}/{file}")


def _with_sources_in(folder: str, net: Message) -> Message:
    """The net with every Data layer's `source` in `folder`, under its own name."""

    def moved(field: Field) -> Field:
        if field.name != "source":
            return field
        return field.with_value(Scalar(quote(f"{folder}/{Path(field.as_string()).name}")))

    return net.transformed(moved)
