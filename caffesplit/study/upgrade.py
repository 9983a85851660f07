"""Upgrading one file of any kind: a net, a solver, or weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import Location, NetError, WeightsError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.output import check_targets, replacing
from caffesplit.formats.prototxt import Message
from caffesplit.formats.wire import CONTROL_CHARACTERS, TEXT_BYTES
from caffesplit.net.findings import Finding
from caffesplit.net.upgrade import upgrade_net, upgrade_solver
from caffesplit.study.upgrade_model import upgrade_model

UTF16 = (b"\xff\xfe", b"\xfe\xff")

STATE = b"\x08"
"""The first byte of a SolverState (`iter`) and of an older BlobProto (`num`): field 1, a number."""


@dataclass(frozen=True)
class Upgraded:
    """What was done to a file.

    Attributes:
        path: where the result is.
        source: the file it was.
        kind: net, solver or weights.
        steps: what was upgraded, in words; empty if nothing was, and the file copied.
        findings: what has no place in today's format, and was left out.
    """

    path: Path
    source: Path
    kind: str
    steps: tuple[str, ...]
    findings: tuple[Finding, ...]


def upgrade(source: Path, destination: Path, force: bool = False) -> Upgraded:
    """Write a net, solver or weight file in today's format; which of them it is, its content says.

    Raises:
        PrototxtError, WeightsError: if it is none of them, or damaged.
        NetError: for text that is neither net nor solver, and for what Caffe refuses to upgrade.
        OutputError: if `destination` is the source, or exists and `force` is false.
    """
    check_targets([destination], force, [source])
    if _is_binary(source):
        model = upgrade_model(source, destination, force)
        return Upgraded(destination, source, "weights", model.steps, model.findings)
    tree = prototxt.load(source)
    kind = kind_of(tree, str(source))
    text = (upgrade_net if kind == "net" else upgrade_solver)(tree, str(source))
    with replacing(destination, force=force, inputs=[source]) as (staged,):
        staged.write_bytes(prototxt.encode(text.result))
    return Upgraded(destination, source, kind, text.steps, text.findings)


def is_solver(source: Path) -> bool:
    """Whether a file's content is a solver's.

    Raises:
        PrototxtError, WeightsError, NetError: if it is neither net, nor solver, nor weights.
    """
    return not _is_binary(source) and kind_of(prototxt.load(source), str(source)) == "solver"


def kind_of(tree: Message, path: str = "<text>") -> str:
    """Whether a text is a net or a solver, by the fields that only one of them has.

    Raises:
        NetError: if it has fields of both, or of neither.
    """
    names = {field.name for field in tree.fields}
    net, solver = (
        set(schema.message_class(name).DESCRIPTOR.fields_by_name)
        for name in ("NetParameter", "SolverParameter")
    )
    is_net, is_solver = names & (net - solver), names & (solver - net)
    if is_net and is_solver:
        found = f"`{min(is_net)}` of a net beside `{min(is_solver)}` of a solver"
    elif not (is_net or is_solver):
        found = "no field of a net or a solver"
    else:
        return "net" if is_net else "solver"
    raise NetError(
        found,
        "a net (`layer { … }`), a solver (`net: …`) or a weight file",
        "Give one of them; a plain list or log cannot be upgraded.",
        Location(path),
    )


def _is_binary(path: Path) -> bool:
    """Whether a file is to be read as weights. What is no file is the prototxt reader's business,
    and so is UTF-16.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(TEXT_BYTES)
    if start.startswith(STATE):
        raise WeightsError(
            "a number in the first field, as in a solver state or a mean image",
            "a net, a solver or weights",
            "Solver states and mean images have had one format only: use the file as it is.",
            Location(str(path), byte=0),
        )
    return not start.startswith(UTF16) and any(byte in CONTROL_CHARACTERS for byte in start)
