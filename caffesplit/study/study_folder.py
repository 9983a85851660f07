"""The folder of a study: whose it is, and one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caffesplit.engines import running
from caffesplit.errors import Location, OutputError, StudyError
from caffesplit.formats.output import replacing
from caffesplit.study import bases

STUDY_FILE = "study.toml"
MARKER = ".caffesplit-study"
"""The file that marks a study's folder, and is locked while it is being run."""

RESULTS = (
    *("table.md", "table.json", "generations.png", "curves.png"),
    *("tpm.md", "tpm.png", "report.html"),
)
"""What a study leaves for people to look at."""


@contextmanager
def alone(out: Path, text: str) -> Iterator[None]:
    """Keep the study's text in its folder, and others from running a study there meanwhile.

    Raises:
        OutputError: if the folder cannot be written to, or is no study's and has files that a
            study would replace.
        StudyError: if a study is being run there.
    """
    if not (out / MARKER).exists():
        _check_free(out, text)
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / MARKER).open("a")
    except OSError as error:
        raise OutputError(
            f"the study's folder cannot be written to ({error.strerror})",
            "a writable folder",
            "Give another output, or change the folder's permissions.",
            Location(str(out)),
        ) from error
    with file:
        busy = StudyError(
            "a study is being run here already",
            "one at a time",
            "Wait for its end, or stop it.",
            Location(str(out)),
        )
        running.lock(file, busy)
        with replacing(out / STUDY_FILE, force=True) as (staged,):
            staged.write_text(text, encoding="utf-8")
        yield


def _check_free(out: Path, text: str) -> None:
    """Refuse a folder that no study has written, where it has what this one would write."""
    own = [] if _is(out / STUDY_FILE, text) else [STUDY_FILE]
    for name in (*own, *RESULTS, bases.OWN):
        if (out / name).exists():
            raise OutputError(
                f"{name} is here, not written by a study",
                "a new folder, or one of a study",
                "Give another output.",
                Location(str(out)),
            )


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
