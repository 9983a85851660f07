"""Writing files so that a reader sees the old ones or the complete new ones, never a part.

Outputs are staged in a hidden folder beside their destination and renamed when all of them
are complete. A kill at any moment leaves the previous state and, at worst, that hidden folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from caffesplit.errors import Location, OutputError


@contextmanager
def replacing(
    *targets: Path | str, force: bool = False, inputs: Iterable[Path | str] = ()
) -> Iterator[tuple[Path, ...]]:
    """Yield one staging path per target; rename them all over the targets when the block ends.

    Targets share one folder, which is created if need be (a new folder appears at once, with
    everything in it). If the block raises, nothing is left behind.

    Raises:
        OutputError: if a target exists and `force` is false, if a target is one of `inputs`,
            or if the destination is not a folder one may write to.
    """
    paths = tuple(Path(target) for target in targets)
    folders = {path.parent for path in paths}
    if len(folders) != 1:
        raise ValueError(f"targets of one replacement share one folder, got {sorted(folders)}")
    (folder,) = folders
    check_targets(paths, force=force, inputs=inputs)
    staging = _make_staging(folder)
    try:
        staged = tuple(staging / path.name for path in paths)
        yield staged
        if folder.exists():
            for source, path in zip(staged, paths, strict=True):
                source.replace(path)
            staging.rmdir()
        else:
            staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def check_targets(
    targets: Iterable[Path | str], force: bool = False, inputs: Iterable[Path | str] = ()
) -> None:
    """Raise OutputError if a target is an input, or exists and `force` is false."""
    read = {Path(path).resolve() for path in inputs}
    for path in map(Path, targets):
        if path.resolve() in read:
            raise OutputError(
                "the output is also an input",
                "another path",
                "Give another output; inputs are never overwritten, not even with --force.",
                Location(str(path)),
            )
        if path.is_dir():
            raise OutputError(
                "a folder is in the way of the output",
                "a file name",
                "Give another output.",
                Location(str(path)),
            )
        if path.exists() and not force:
            raise OutputError(
                "the output exists already",
                "a new path",
                "Give another output, or --force to replace it.",
                Location(str(path)),
            )


def _make_staging(folder: Path) -> Path:
    """Make the hidden staging folder: inside `folder`, or beside it where it is still to come."""
    try:
        if folder.exists():
            parent = folder
        else:
            parent = folder.parent
            parent.mkdir(parents=True, exist_ok=True)
        staging = Path(
            tempfile.mkdtemp(prefix=f".{folder.name or 'out'}.", suffix=".partial", dir=parent)
        )
    except OSError as error:
        raise OutputError(
            f"the output folder cannot be written to ({error.strerror})",
            "a writable folder",
            "Give another output, or change the folder's permissions.",
            Location(str(folder)),
        ) from error
    # mkdtemp makes private folders; what is handed over follows the user's umask like any other.
    umask = os.umask(0)
    os.umask(umask)
    staging.chmod(0o777 & ~umask)
    return staging
