"""Writing files so that a reader sees the old ones or the complete new ones, never a part.

Outputs are staged in a hidden folder beside their destination and renamed when all of them are
complete. So each file is at any moment the old one or the complete new one, and a new folder
appears with everything in it. Several files in a folder that exists are put in place one after
the other; signals to stop wait for the last of them, and errors are undone or told, but a
`kill -9` between two of them leaves some new and some old files, each complete.

A kill at any earlier moment leaves the previous state and, at worst, the hidden folder and empty
ones above it. Nothing is synced: what a power cut leaves is the file system's business.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from caffesplit.errors import Location, OutputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that say that there is no room: on the disk, in the user's part of it, or in a file."""

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def replacing(
    *targets: Path | str, force: bool = False, inputs: Iterable[Path | str] = ()
) -> Iterator[tuple[Path, ...]]:
    """Yield one staging path per target; put them all in the targets' place when the block ends.

    Targets share one folder, which is created if need be (a new folder appears at once, with
    everything in it). If the block raises, nothing is left behind. Without `force`, a target
    that another process has written meanwhile stays as well.

    Raises:
        OutputError: if a target exists and `force` is false, if a target is one of `inputs` or
            no regular file, if the destination is not a folder one may write to, or if the
            disk is full.
    """
    paths = tuple(Path(target) for target in targets)
    folders = {path.parent for path in paths}
    if len(folders) != 1:
        raise ValueError(f"targets of one replacement share one folder, got {sorted(folders)}")
    (folder,) = folders
    check_targets(paths, force=force, inputs=inputs)
    missing = [above for above in folder.parents if not above.exists()]
    try:
        with ExitStack() as leaving:
            leaving.callback(_remove_empty, missing)
            staging = _make_staging(folder)
            leaving.callback(shutil.rmtree, staging, ignore_errors=True)
            yield tuple(staging / path.name for path in paths)
            with _uninterrupted():
                _put_in_place(staging, folder, paths, force)
                shutil.rmtree(staging, ignore_errors=True)
    except (OSError, OutputError) as error:
        # An OutputError may be that of a replacement inside this one, which names its staging.
        cause = error.__cause__ if isinstance(error, OutputError) else error
        if not isinstance(cause, OSError) or cause.errno not in FULL:
            raise
        raise _no_room(folder, cause) from cause


def check_targets(
    targets: Iterable[Path | str], force: bool = False, inputs: Iterable[Path | str] = ()
) -> None:
    """Raise OutputError if a target is an input or no regular file, or exists without `force`."""
    read = {Path(path).resolve() for path in inputs}
    for path in map(Path, targets):
        at = Location(str(path))
        if path.resolve() in read:
            raise OutputError(
                "the output is also an input",
                "another path",
                "Give another output; inputs are never overwritten, not even with --force.",
                at,
            )
        if not path.name:
            raise OutputError("an output without a name", "a file name", "Give it one.", at)
        if path.is_symlink():
            raise OutputError(
                "a symbolic link is in the way of the output",
                "a file name",
                "Give the path that the link leads to.",
                at,
            )
        if path.exists() and not path.is_file():
            kind = "folder" if path.is_dir() else "device or pipe"
            raise OutputError(
                f"a {kind} is in the way of the output", "a file name", "Give another output.", at
            )
        if path.exists() and not force:
            raise _exists(path)


def _exists(path: Path) -> OutputError:
    return OutputError(
        "the output exists already",
        "a new path",
        "Give another output, or --force to replace it.",
        Location(str(path)),
    )


def _no_room(folder: Path, error: OSError) -> OutputError:
    there = next(above for above in (folder, *folder.parents) if above.exists())
    free = shutil.disk_usage(there).free
    return OutputError(
        f"the output does not fit on the disk ({error.strerror}, {free:,} bytes are free)",
        "room for all of it",
        "Make room, or give an output on another disk.",
        Location(str(folder)),
    )


def _make_staging(folder: Path) -> Path:
    """Make the hidden staging folder: inside `folder`, or beside it where it is still to come."""
    try:
        parent = folder if os.path.lexists(folder) else folder.parent
        if parent != folder:
            parent.mkdir(parents=True, exist_ok=True)
        staging = Path(
            tempfile.mkdtemp(prefix=f".{folder.name or 'out'}.", suffix=".partial", dir=parent)
        )
    except OSError as error:
        if error.errno in FULL:
            raise
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


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders, inner ones first, that are there and empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold signals to stop back until the block ends. Only the main thread gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handlers = {stop: signal.signal(stop, lambda number, _: held.append(number)) for stop in STOPS}
    try:
        yield
    finally:
        for stop, handler in handlers.items():
            signal.signal(stop, handler)
        for number in held:
            signal.raise_signal(number)


def _put_in_place(staging: Path, folder: Path, paths: Sequence[Path], force: bool) -> None:
    if not folder.exists():
        try:
            staging.rename(folder)
            return
        except OSError:
            if not folder.is_dir():
                raise  # Otherwise another process has made it meanwhile.
    if force:
        _replace_all(staging, paths)
    else:
        _add_all(staging, paths)


def _replace_all(staging: Path, paths: Sequence[Path]) -> None:
    """Rename the staged files over the targets. Should one fail, keep those that are left."""
    for done, path in enumerate(paths):
        try:
            (staging / path.name).replace(path)
        except OSError as error:
            if not done:
                raise
            rest = staging.rename(staging.with_suffix(".rest"))
            raise OutputError(
                f"only {done} of {len(paths)} outputs could be replaced ({error.strerror})",
                "to replace all of them",
                f"The new files that are left, all complete, are in {rest}.",
                Location(str(path)),
            ) from None


def _add_all(staging: Path, paths: Sequence[Path]) -> None:
    """Give the staged files their final names, all of which must be free, or none."""
    added: list[Path] = []
    try:
        for path in paths:
            _add(staging / path.name, path)
            added.append(path)
    except (OSError, OutputError):
        for path in added:
            path.unlink()
        raise


def _add(source: Path, path: Path) -> None:
    try:
        os.link(source, path)  # Unlike a rename, it never replaces.
    except OSError as error:
        if os.path.lexists(path):
            raise _exists(path) from error
        source.rename(path)  # A file system without hard links.
