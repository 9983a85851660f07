"""Files from the web, by their checksums; a broken download is gone on with."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import DatabaseError, Location

CHUNK = 1 << 18

TIMEOUT = 60.0
"""Seconds in which a server has to say something."""

HTTP_PARTIAL, HTTP_RANGE_REFUSED = 206, 416


@dataclass(frozen=True)
class Download:
    """A file's address, its bytes and their SHA-256."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def at(self) -> Location:
        return Location(self.url)


def fetch(
    download: Download, folder: Path, progress: Callable[[int], None] = lambda done: None
) -> Path:
    """Bring the file into `folder` unless it is there; return its path.

    `progress` learns the bytes that are there. What has arrived of a download that was broken off
    stays beside, and the next call asks for the rest.

    Raises:
        DatabaseError: if the server cannot be reached or breaks off, or the file has another
            checksum.
    """
    path = folder / download.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{download.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path
        partial = path.with_name(f"{path.name}.partial")
        if _size(partial) < download.size:
            _transfer(download, partial, progress)
        _check(download, partial)
        partial.rename(path)
    return path


def _transfer(download: Download, partial: Path, progress: Callable[[int], None]) -> None:
    why = "the connection was broken off"
    try:
        _receive(download, partial, _size(partial), progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTP_RANGE_REFUSED:
            partial.unlink(missing_ok=True)
        why = str(error)
    except (OSError, http.client.HTTPException) as error:
        why = str(error)
    held = _size(partial)
    if held < download.size:
        raise _failed(download, held, why)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(download: Download, partial: Path, held: int, progress: Callable[[int], None]) -> None:
    """Receive what is missing, or all of it from a server that knows no ranges."""
    headers = {"Range": f"bytes={held}-"} if held else {}
    request = urllib.request.Request(download.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        starts = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        goes_on = answer.status == HTTP_PARTIAL and starts and int(starts[1]) == held
        held = held if goes_on else 0
        with partial.open("ab" if goes_on else "wb") as file:
            while held < download.size and (chunk := answer.read1(CHUNK)):
                file.write(chunk)
                held += len(chunk)
                progress(held)


def _check(download: Download, partial: Path) -> None:
    with partial.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != download.sha256:
        partial.unlink()
        raise DatabaseError(
            f"a file with the SHA-256 {digest.hexdigest()}",
            download.sha256,
            "It was deleted. Give the same command again to download it anew.",
            download.at,
        )


def _failed(download: Download, held: int, why: str) -> DatabaseError:
    return DatabaseError(
        f"the download stopped at {held:,} of {download.size:,} bytes ({why})",
        "all of them",
        f"Give the same command again: it goes on there. Or get {download.name} in another way,\n"
        "and name it with --archive.",
        download.at,
    )
