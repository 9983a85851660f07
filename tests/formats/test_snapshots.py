"""Snapshots are found by the names every Caffe gave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffesplit.formats.snapshots import Snapshot, files, find


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder / "snap"


def found(prefix: Path | str) -> list[tuple[int, str]]:
    return [(snapshot.iteration, snapshot.path.name) for snapshot in find(prefix)]


def test_snapshots_come_in_the_order_of_their_iterations(tmp_path: Path):
    prefix = touched(tmp_path, *(f"snap_iter_{n}.caffemodel" for n in (900, 1000, 50)))

    assert found(prefix) == [
        (50, "snap_iter_50.caffemodel"),
        (900, "snap_iter_900.caffemodel"),
        (1000, "snap_iter_1000.caffemodel"),
    ]
    assert find(str(prefix))[0] == Snapshot(50, tmp_path / "snap_iter_50.caffemodel")


@pytest.mark.parametrize(
    "name",
    [
        "snap_iter_7.caffemodel",
        "snap_iter_7.caffemodel.h5",
        "snap_iter_7",  # Caffe v0.9999
        "snap_iter_7_score0_0.76.caffemodel",  # NVCaffe
        "snap_iter_7_score0_0.76_score1_0.93.caffemodel",
    ],
)
def test_every_caffes_names_are_known(tmp_path: Path, name: str):
    assert found(touched(tmp_path, name)) == [(7, name)]


@pytest.mark.parametrize(
    "name",
    [
        "snap_iter_7.solverstate",
        "snap_iter_7.caffemodel.bak",
        "snap_iter_.caffemodel",
        "snap_iter_x.caffemodel",
        "snap2_iter_7.caffemodel",
        "old_snap_iter_7.caffemodel",
        ".snap_iter_7.caffemodel",
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, name: str):
    assert found(touched(tmp_path, name)) == []


def test_folders_are_no_snapshots(tmp_path: Path):
    (tmp_path / "snap_iter_7").mkdir()

    assert find(tmp_path / "snap") == ()


def test_of_two_formats_binaryproto_is_taken(tmp_path: Path):
    prefix = touched(
        tmp_path, "snap_iter_7", "snap_iter_7.caffemodel", "snap_iter_7.caffemodel.h5",
        "snap_iter_8", "snap_iter_8.caffemodel.h5",
    )  # fmt: skip

    assert found(prefix) == [(7, "snap_iter_7.caffemodel"), (8, "snap_iter_8")]


def test_a_prefix_may_end_with_a_slash_as_caffe_allows(tmp_path: Path):
    touched(tmp_path, "_iter_7.caffemodel")

    assert found(f"{tmp_path}/") == [(7, "_iter_7.caffemodel")]


def test_a_prefix_without_a_folder_is_in_the_working_directory(tmp_path: Path, monkeypatch):
    touched(tmp_path, "snap_iter_7.caffemodel")
    monkeypatch.chdir(tmp_path)

    assert found("snap") == [(7, "snap_iter_7.caffemodel")]


def test_characters_of_patterns_mean_themselves(tmp_path: Path):
    touched(tmp_path, "a[b]*.c_iter_7.caffemodel")

    assert found(tmp_path / "a[b]*.c") == [(7, "a[b]*.c_iter_7.caffemodel")]


def test_where_nothing_is_nothing_is_found(tmp_path: Path):
    assert find(tmp_path / "none" / "snap") == ()


def test_files_of_a_prefix_are_its_snapshots_and_solver_states_in_every_format(tmp_path: Path):
    prefix = touched(
        tmp_path,
        "snap_iter_5.caffemodel",
        "snap_iter_5.caffemodel.h5",
        "snap_iter_5.solverstate",
        "snap_iter_7.solverstate.h5",
        "other_iter_5.caffemodel",
        "snap_iter_5.solverstate.bak",
    )

    assert {path.name: iteration for path, iteration in files(prefix).items()} == {
        "snap_iter_5.caffemodel": 5,
        "snap_iter_5.caffemodel.h5": 5,
        "snap_iter_5.solverstate": 5,
        "snap_iter_7.solverstate.h5": 7,
    }
