from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_disk import grown, mounted

from caffesplit.errors import DatabaseError, OutputError
from caffesplit.formats import database, partial

RECIPE = {"data": "numbers", "count": 950}


def records(count: int = 950, stop_at: int | None = None, seen: list[int] | None = None):
    """Numbered records from a place on; a stop on the way, as by Ctrl-C."""

    def from_place(start: int):
        if seen is not None:
            seen.append(start)
        for place in range(start, count):
            if place == stop_at:
                raise KeyboardInterrupt
            image = np.full((1, 8, 8), place % 256, np.uint8)
            yield database.key(place), database.datum(image, place % 10)

    return from_place


def build(folder: Path, source, recipe=RECIPE, **options) -> None:
    partial.build(
        folder / "set.partial",
        ["db/data.mdb", "note"],
        lambda work: (
            database.complete(work / "db", source),
            (work / "note").write_text("made"),
        ),
        recipe,
        **options,
    )


def content(folder: Path) -> list[tuple[bytes, bytes]]:
    return list(database.read_bytes(folder))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(database, "BATCH", 100)


@pytest.fixture
def whole(tmp_path) -> list[tuple[bytes, bytes]]:
    build(tmp_path / "whole", records())
    return content(tmp_path / "whole/db")


def test_outputs_appear_together_and_nothing_else_stays(tmp_path):
    build(tmp_path / "out", records())

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["db", "note"]
    assert database.count(tmp_path / "out/db") == 950


def test_a_stopped_run_shows_its_folder_and_no_output_and_the_next_one_goes_on(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, records(stop_at=555))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.partial", "whole"]
    starts: list[int] = []

    build(tmp_path, records(seen=starts))

    assert starts == [500]
    assert content(tmp_path / "db") == whole
    assert not (tmp_path / "set.partial").exists()


def test_a_run_with_another_recipe_starts_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, records(stop_at=555))
    starts: list[int] = []

    build(tmp_path, records(300, seen=starts), RECIPE | {"count": 300})

    assert starts == [0]
    assert database.count(tmp_path / "db") == 300


def test_what_a_power_cut_damaged_is_made_anew(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, records(stop_at=555))
    data = tmp_path / "set.partial/db/data.mdb"
    data.write_bytes(data.read_bytes()[:-9000])
    starts: list[int] = []

    build(tmp_path, records(seen=starts))

    assert starts == [0]
    assert content(tmp_path / "db") == whole


@pytest.mark.parametrize("moved", [0, 1])
def test_a_run_stopped_while_it_puts_its_outputs_in_place_is_finished(
    tmp_path, monkeypatch, whole, moved
):
    real, moves = shutil.move, []

    def stopping(*paths):
        if len(moves) == moved:
            raise KeyboardInterrupt
        moves.append(paths)
        return real(*paths)

    monkeypatch.setattr(shutil, "move", stopping)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, records())
    monkeypatch.setattr(shutil, "move", real)
    starts: list[int] = []

    build(tmp_path, records(seen=starts))

    assert starts == []
    assert content(tmp_path / "db") == whole
    assert (tmp_path / "note").read_text() == "made"
    assert not (tmp_path / "set.partial").exists()


def test_bad_input_leaves_nothing(tmp_path):
    def bad(start):
        yield from list(records()(start))[:444]
        raise DatabaseError("the source is damaged")

    with pytest.raises(DatabaseError, match="the source is damaged"):
        build(tmp_path / "a/new/folder", bad)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_exist_are_replaced_only_by_force(tmp_path):
    (tmp_path / "note").write_text("old")
    with pytest.raises(OutputError, match="the output exists already"):
        build(tmp_path, records())
    assert [path.name for path in tmp_path.iterdir()] == ["note"]

    build(tmp_path, records(), force=True)

    assert (tmp_path / "note").read_text() == "made"


def test_an_output_that_another_program_writes_meanwhile_is_not_replaced(tmp_path, whole):
    def slow(start):
        yield from records()(start)
        (tmp_path / "note").write_text("another's")

    with pytest.raises(OutputError, match="the output exists already"):
        build(tmp_path, slow)
    assert (tmp_path / "note").read_text() == "another's"

    build(tmp_path, records(), force=True)

    assert content(tmp_path / "db") == whole
    assert (tmp_path / "note").read_text() == "made"


def test_an_input_is_never_an_output(tmp_path):
    (tmp_path / "note").write_text("input")
    (tmp_path / "link").symlink_to(tmp_path / "note")
    with pytest.raises(OutputError, match="the output is also an input"):
        build(tmp_path, records(), inputs=[tmp_path / "link"], force=True)
    assert (tmp_path / "note").read_text() == "input"


FOREIGN = (
    "expected no such path\nOutputs are prepared in a folder of that name. Move set.partial away."
)


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path):
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial/thesis.tex").write_text("ten years of work")

    with pytest.raises(OutputError) as caught:
        build(tmp_path, records(), force=True)

    assert str(caught.value) == f"{tmp_path}/set.partial: a folder is in the way, {FOREIGN}"
    assert (tmp_path / "set.partial/thesis.tex").exists()


@pytest.mark.parametrize("link", [True, False])
def test_a_file_or_link_in_the_way_is_not_touched(tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    if link:
        (tmp_path / "set.partial").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "set.partial").write_text("")
    with pytest.raises(OutputError) as caught:
        build(tmp_path, records())
    assert str(caught.value) == f"{tmp_path}/set.partial: a file or link is in the way, {FOREIGN}"


def test_two_processes_do_not_write_the_same_outputs(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, records(stop_at=555))
    with (tmp_path / "set.partial" / partial.STAMP).open() as stamp:
        fcntl.flock(stamp, fcntl.LOCK_EX)

        with pytest.raises(OutputError) as caught:
            build(tmp_path, records())

    assert str(caught.value) == (
        f"{tmp_path}/set.partial: another process is writing this output, "
        "expected one at a time\nWait for it."
    )
    assert json.loads((tmp_path / "set.partial" / partial.STAMP).read_text()) == RECIPE


def test_a_full_disk_is_told_and_with_more_room_the_run_goes_on(tmp_path, whole):
    with mounted(tmp_path / "disk", "128k") as disk:
        with pytest.raises(OutputError) as caught:
            build(disk, records())
        free = str(caught.value).split("device, ")[1].split(" bytes")[0]
        assert str(caught.value) == (
            f"{disk}: the output does not fit on the disk (No space left on device, {free} bytes "
            "are free), expected room for all of it\n"
            "Make room and give the same command again, which goes on where it stopped; or "
            f"delete\n{disk}/set.partial, which holds what is done."
        )
        assert [path.name for path in disk.iterdir()] == ["set.partial"]
        starts: list[int] = []
        grown(disk, "4m")

        build(disk, records(seen=starts))

        assert starts[0] > 0
        assert content(disk / "db") == whole


def test_a_disk_without_any_room_is_told(tmp_path):
    with mounted(tmp_path / "disk", "8k") as disk:
        (disk / "other").write_bytes(bytes(8192))
        with pytest.raises(OutputError, match="the output does not fit on the disk"):
            build(disk, records())


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        build(tmp_path / "file", records())
    assert str(caught.value) == (
        f"{tmp_path}/file/set.partial: the output folder cannot be written to (Not a directory), "
        "expected a writable folder\nGive another output, or change the folder's permissions."
    )
