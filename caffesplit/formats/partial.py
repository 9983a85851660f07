"""Outputs that take long to make: what a stopped run has done is kept and gone on with.

The work is done in a folder that the user sees, NAME.partial beside the outputs, and its files
are renamed to their places when all of them are complete. A stamp in it tells what they are made
of: the same command, given again, goes on there, any other starts anew.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from caffesplit.errors import CaffesplitError, Location, OutputError
from caffesplit.formats.output import FULL, check_targets, replacing

SUFFIX = ".partial"

STAMP, FINISHED = "caffesplit.json", "caffesplit.finished"
"""What the outputs are made of; and the mark that all of them are made."""

Recipe: TypeAlias = Mapping[str, object]
"""What outputs are made of, and how, as JSON has it."""


def identity(path: Path | str) -> list[object]:
    """What tells an input from a later one of its name, for a recipe: path, size and time."""
    status = Path(path).stat()
    return [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]


def build(
    partial: Path,
    outputs: Sequence[str],
    make: Callable[[Path], None],
    recipe: Recipe,
    *,
    force: bool = False,
    inputs: Iterable[Path] = (),
) -> None:
    """Let `make` write the `outputs` below the folder `partial`; put them below its parent.

    Where an earlier call with the same recipe was stopped, `make` finds what it has written. Bad
    input (a CaffesplitError of `make`) leaves nothing; a full disk, like a kill, leaves `partial`.

    Raises:
        OutputError: if an output exists and `force` is false, if it is one of `inputs`, if another
            process is writing it, if something else is in the way, or if the disk is full.
    """
    stamp = json.dumps(recipe, indent=1, sort_keys=True)
    known = _text(partial / STAMP) == stamp
    finished = known and (partial / FINISHED).exists()
    # A run may have been killed while it put its outputs in their places.
    left = [output for output in outputs if not finished or (partial / output).exists()]
    check_targets((partial.parent / output for output in left), force=force, inputs=inputs)
    _refuse_foreign(partial)
    missing = [above for above in partial.parents if not above.exists()]
    try:
        with _alone(partial):
            if not known:
                _clear(partial)
                (partial / STAMP).write_text(stamp)
            if not finished:
                _make(make, partial)
                (partial / FINISHED).touch()
            for output in left:
                with replacing(partial.parent / output, force=force) as (staged,):
                    shutil.move(partial / output, staged)
            shutil.rmtree(partial)
    except CaffesplitError:
        for above in missing:
            with suppress(OSError):
                above.rmdir()
        raise
    except OSError as error:
        if error.errno in FULL:
            raise _no_room(partial, error) from error
        raise


def _make(make: Callable[[Path], None], partial: Path) -> None:
    try:
        make(partial)
    except CaffesplitError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise error.__cause__ from None
        shutil.rmtree(partial)
        raise


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Make the folder, and hold it against other processes."""
    at = Location(str(partial))
    try:
        partial.mkdir(parents=True, exist_ok=True)
        stamp = (partial / STAMP).open("a")
    except OSError as error:
        if error.errno in FULL:
            raise
        raise OutputError(
            f"the output folder cannot be written to ({error.strerror})",
            "a writable folder",
            "Give another output, or change the folder's permissions.",
            at,
        ) from error
    with stamp:
        try:
            fcntl.flock(stamp, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                "another process is writing this output", "one at a time", "Wait for it.", at
            ) from None
        yield


def _refuse_foreign(partial: Path) -> None:
    """Nothing is deleted that was not written here."""
    at = Location(str(partial))
    remedy = f"Outputs are prepared in a folder of that name. Move {partial.name} away."
    if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
        raise OutputError("a file or link is in the way", "no such path", remedy, at)
    if partial.is_dir() and any(partial.iterdir()) and not (partial / STAMP).exists():
        raise OutputError("a folder is in the way", "no such path", remedy, at)


def _clear(partial: Path) -> None:
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != STAMP:
            path.unlink()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _no_room(partial: Path, error: OSError) -> OutputError:
    free = shutil.disk_usage(partial.parent).free
    return OutputError(
        f"the output does not fit on the disk ({error.strerror}, {free:,} bytes are free)",
        "room for all of it",
        f"Make room and give the same command again, which goes on where it stopped; or delete\n"
        f"{partial}, which holds what is done.",
        Location(str(partial.parent)),
    )
