import errno
import os
import re
import signal
import subprocess
import sys
import threading
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


@pytest.fixture
def device(tmp_path) -> Path:
    """What stands for all that is neither file nor folder: a pipe."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("force", [False, True])
def test_a_device_or_pipe_is_never_replaced(device, force):
    with pytest.raises(OutputError) as caught, replacing(device, force=force):
        pass
    assert str(caught.value) == (
        f"{device}: a device or pipe is in the way of the output, expected a file name\n"
        "Give another output."
    )
    assert device.is_fifo()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("leads_to", ["nowhere", "file"])
def test_a_symbolic_link_is_never_replaced(tmp_path, force, leads_to):
    (tmp_path / "file").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(leads_to)
    with pytest.raises(OutputError) as caught, replacing(link, force=force):
        pass
    assert str(caught.value) == (
        f"{link}: a symbolic link is in the way of the output, expected a file name\n"
        "Give the path that the link leads to."
    )
    assert names(tmp_path) == {"file", "link"}


def test_an_output_needs_a_name():
    with pytest.raises(OutputError, match="an output without a name"), replacing(""):
        pass


def test_a_link_that_leads_nowhere_is_no_folder_to_write_into(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with (
        pytest.raises(OutputError, match="the output folder cannot be written to"),
        replacing(tmp_path / "link/one"),
    ):
        pass
    assert names(tmp_path) == {"link"}


def test_a_link_to_a_folder_is_as_good_as_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with replacing(tmp_path / "link/one") as (staged,):
        staged.write_text("1")
    assert names(tmp_path / "folder") == {"one"}


def test_a_failure_leaves_none_of_the_folders_it_made(tmp_path):
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        replacing(tmp_path / "a/b/c/one") as (staged,),
    ):
        staged.write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_what_is_free_on_it(tmp_path, number):
    with (  # noqa: PT012
        pytest.raises(OutputError) as caught,
        replacing(tmp_path / "new/one") as (staged,),
    ):
        staged.write_text("part")
        raise OSError(number, os.strerror(number))
    assert re.fullmatch(
        rf"{tmp_path}/new: the output does not fit on the disk \({os.strerror(number)}, "
        r"[\d,]+ bytes are free\), expected room for all of it\n"
        "Make room, or give an output on another disk.",
        str(caught.value),
    )
    assert names(tmp_path) == set()


def test_a_disk_that_fills_up_in_an_inner_replacement_is_told_of_the_outer_one(tmp_path):
    with (
        pytest.raises(OutputError) as caught,
        replacing(tmp_path / "new/one") as (outer,),
        replacing(outer),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert str(caught.value).startswith(f"{tmp_path}/new: the output does not fit on the disk")


def test_an_output_error_of_the_block_stays_what_it_is(tmp_path):
    (tmp_path / "old").write_text("old")
    with (
        pytest.raises(OutputError, match="old: the output exists already"),
        replacing(tmp_path / "new/one"),
        replacing(tmp_path / "old"),
    ):
        pass


def test_another_error_of_the_system_stays_what_it_is(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / "new/one"):
        raise PermissionError(errno.EACCES, "denied")


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("folder", ["", "new"])
def test_of_two_writers_at_once_the_second_is_refused(tmp_path, monkeypatch, folder, hard_links):
    def no_link(*_):
        raise PermissionError(errno.EPERM, "this file system has no hard links")

    if not hard_links:
        monkeypatch.setattr(os, "link", no_link)
    one, two = tmp_path / folder / "one", tmp_path / folder / "two"
    with (  # noqa: PT012
        pytest.raises(OutputError) as caught,
        replacing(one, two) as late,
    ):
        for staged in late:
            staged.write_text("late")
        with replacing(two) as (staged,):
            staged.write_text("early")
    assert str(caught.value) == (
        f"{two}: the output exists already, expected a new path\n"
        "Give another output, or --force to replace it."
    )
    assert names(two.parent) == {"two"}
    assert two.read_text() == "early"


def test_two_writers_of_different_files_share_a_new_folder(tmp_path):
    one, two = tmp_path / "new/one", tmp_path / "new/two"
    with replacing(one) as (first,), replacing(two) as (second,):
        first.write_text("1")
        second.write_text("2")
    assert names(tmp_path / "new") == {"one", "two"}
    assert names(tmp_path) == {"new"}


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_between_two_files_waits_for_the_last(tmp_path, stop):
    for name in ("one", "two"):
        (tmp_path / name).write_text("old")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from caffesplit.formats.output import replacing\n"
        "replace = Path.replace\n"
        "def stopped(source, target):\n"
        f"    os.kill(os.getpid(), signal.{stop})\n"
        "    return replace(source, target)\n"
        "with replacing(*sys.argv[1:], force=True) as staged:\n"
        "    for path in staged:\n"
        "        path.write_text('new')\n"
        "    Path.replace = stopped\n"
    )
    files = [str(tmp_path / "one"), str(tmp_path / "two")]
    ended = subprocess.run([sys.executable, "-c", program, *files], stderr=subprocess.PIPE)
    assert ended.returncode == -getattr(signal, stop)
    assert [Path(file).read_text() for file in files] == ["new", "new"]
    assert names(tmp_path) == {"one", "two"}


def test_a_thread_may_write_too(tmp_path):
    def write() -> None:
        with replacing(tmp_path / "one") as (staged,):
            staged.write_text("1")

    writer = threading.Thread(target=write)
    writer.start()
    writer.join()
    assert names(tmp_path) == {"one"}


def test_new_files_that_cannot_be_put_in_place_are_kept_and_named(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("old")
    with (  # noqa: PT012
        pytest.raises(OutputError) as caught,
        replacing(one, two, force=True) as (first, second),
    ):
        first.write_text("1")
        second.write_text("2")
        two.mkdir()
    assert one.read_text() == "1"
    (rest,) = (path for path in tmp_path.iterdir() if path not in (one, two))
    assert (rest / "two").read_text() == "2"
    assert str(caught.value) == (
        f"{two}: only 1 of 2 outputs could be replaced (Is a directory), "
        "expected to replace all of them\n"
        f"The new files that are left, all complete, are in {rest}."
    )
