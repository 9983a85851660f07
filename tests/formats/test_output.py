import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caffesplit.errors import OutputError
from caffesplit.formats.output import replacing


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_outputs_appear_together_when_all_are_complete(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with replacing(one, two) as (first, second):
        first.write_text("1")
        assert names(tmp_path) == {first.parent.name}
        second.write_text("2")
    assert (one.read_text(), two.read_text()) == ("1", "2")
    assert names(tmp_path) == {"one", "two"}


def test_a_new_folder_appears_with_everything_in_it(tmp_path):
    folder = tmp_path / "new/deeper"
    with replacing(folder / "one", folder / "two") as (first, second):
        first.write_text("1")
        second.write_text("2")
        assert not folder.exists()
    assert names(folder) == {"one", "two"}
    assert names(folder.parent) == {"deeper"}
    umask = os.umask(0)
    os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_failure_leaves_the_previous_state(tmp_path):
    (tmp_path / "one").write_text("old")
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        replacing(tmp_path / "one", force=True) as (first,),
    ):
        first.write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == {"one"}
    assert (tmp_path / "one").read_text() == "old"


def test_a_killed_writer_leaves_the_previous_state(tmp_path):
    (tmp_path / "one").write_text("old")
    program = (
        "import sys, time\n"
        "from caffesplit.formats.output import replacing\n"
        "with replacing(sys.argv[1], force=True) as (staged,):\n"
        "    staged.write_text('half')\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "one")], stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / "one").read_text() == "old"
    assert all(name == "one" or name.startswith(".") for name in names(tmp_path))


def test_an_existing_output_needs_force(tmp_path):
    target = tmp_path / "one"
    target.write_text("old")
    with pytest.raises(OutputError) as caught, replacing(target):
        pass
    assert str(caught.value) == (
        f"{target}: the output exists already, expected a new path\n"
        "Give another output, or --force to replace it."
    )
    with replacing(target, force=True) as (staged,):
        staged.write_text("new")
    assert target.read_text() == "new"


def test_an_input_is_never_an_output_not_even_by_another_name(tmp_path):
    target = tmp_path / "one"
    target.write_text("old")
    (tmp_path / "link").symlink_to(target)
    with (
        pytest.raises(OutputError, match="the output is also an input"),
        replacing(tmp_path / "link", force=True, inputs=[target]),
    ):
        pass
    assert target.read_text() == "old"


def test_a_folder_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(OutputError, match="a folder is in the way"), replacing(tmp_path / "one"):
        pass


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="the output folder cannot be written to"),
        replacing(tmp_path / "file/one"),
    ):
        pass


def test_existing_files_of_the_folder_stay(tmp_path):
    (tmp_path / "train.log").write_text("log")
    with replacing(tmp_path / "one") as (staged,):
        staged.write_text("1")
    assert names(tmp_path) == {"one", "train.log"}
