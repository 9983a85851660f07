"""Commands that are killed at random moments, and given again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caffesplit.errors import DatabaseError
from caffesplit.formats import database

COMMAND = """
import sys
from caffesplit.formats import database
database.BATCH = 20
from caffesplit.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "sets_train_lmdb"
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (5000, 1, 12, 12), dtype=np.uint8)
    database.write(
        folder, ((database.key(i), database.datum(v, i % 10)) for i, v in enumerate(values))
    )
    return folder


def command(verb: str, source: Path, folder: Path) -> list[str]:
    arguments = {
        "whiten": [source, "-o", folder, "--gcn", "--pad", "1"],
        "shuffle-labels": [source, folder / "sets_train_lmdb", "--seed", "1"],
    }
    return [sys.executable, "-c", COMMAND, "data", verb, *map(str, arguments[verb])]


def content(folder: Path) -> dict[str, object]:
    """What the files hold, databases by their records."""
    return {
        str(path.relative_to(folder)): list(database.read_bytes(path.parent))
        if path.name == database.DATA_FILE
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def held(folder: Path) -> int:
    """The records that a run has written so far."""
    partials = list(folder.glob("*.partial/sets_train_lmdb"))
    try:
        return database.count(partials[0]) if partials else 0
    except DatabaseError:  # Just being begun.
        return 0


@pytest.mark.parametrize("verb", ["whiten", "shuffle-labels"])
def test_a_command_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, source, verb):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(verb, source, whole), check=True, capture_output=True)
    moments = random.Random(verb)
    kept = [0]

    while len(kept) < 4:
        process = subprocess.Popen(
            command(verb, source, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and held(folder) <= kept[-1]:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        if process.wait() == 0:
            break
        assert not (folder / "sets_train_lmdb").exists()
        kept.append(held(folder))
    assert kept == sorted(set(kept))
    assert len(kept) > 1
    if process.returncode:
        subprocess.run(command(verb, source, folder), check=True, capture_output=True)

    assert content(folder) == content(whole)
    assert not list(folder.glob("*.partial"))
