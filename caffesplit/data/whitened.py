"""Any LMDBs of images, prepared as the first of them asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffesplit.data import prepare
from caffesplit.data.images import from_lmdb
from caffesplit.data.prepare import Preparation, Progress, Written, silent
from caffesplit.errors import DatabaseError, Location
from caffesplit.formats import database
from caffesplit.formats.partial import identity

ENDINGS = ("_train_lmdb", "_lmdb")


def write(
    sources: Sequence[Path],
    folder: Path,
    preparation: Preparation,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Written:
    """Write the LMDBs `sources`, prepared, into `folder`, each under its own name.

    The whitening is fitted to the first one, the training set, and applied to all of them. The
    other outputs of `prepare.write` have its name, without `_train_lmdb` or `_lmdb`.

    Raises:
        DatabaseError: if a source cannot be read, is not of the first one's size, or has the name
            of another.
        OutputError: if an output exists and `force` is false, or is a source; then none is
            written.
    """
    names = [source.resolve().name for source in sources]
    sets = {}
    for name, source in zip(names, sources, strict=True):
        at = Location(str(source))
        if name in sets:
            raise DatabaseError(
                f"two databases of the name {name}", "a name for each", "Rename one of them.", at
            )
        sets[name] = from_lmdb(source)
        first = sets[names[0]].shape
        if sets[name].shape != first:
            raise DatabaseError(
                f"images of shape {sets[name].shape}",
                f"{first}, as in {sources[0]}",
                "What is fitted to one size of images fits no other.",
                at,
            )
    inputs = [source / database.DATA_FILE for source in sources]
    name = names[0]
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return prepare.write(
        folder,
        name,
        sets,
        preparation,
        {"data": [identity(path) for path in inputs]},
        force=force,
        inputs=inputs,
        progress=progress,
    )
