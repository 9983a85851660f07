"""The demo, as `make demo` runs it."""

import re
import subprocess
import sys

import pytest

from caffesplit.errors import DatabaseError, OutputError
from caffesplit.study import demo as study
from caffesplit.study.demo import NETS


def test_the_demo_compares_every_net_with_the_baseline(demo):
    rows = re.findall(r"^(\w+) +(0\.\d+) +(0\.\d+) +([+-]0\.\d+)  ", demo[1].stdout, re.MULTILINE)
    assert [row[0] for row in rows] == list(NETS)
    assert all(float(best) >= float(final) for _, final, best, _ in rows)


def test_the_baseline_leaves_room_for_a_split_to_show(demo):
    accuracy = float(re.search(r"^baseline +(0\.\d+)", demo[1].stdout, re.MULTILINE)[1])
    assert 0.90 <= accuracy <= 0.97


def test_the_demo_leaves_experiments_pictures_and_a_table(demo):
    folder, _ = demo
    for name in NETS:
        assert (folder / name / "train.log").exists()
    for name in ("curves.png", "tpm.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert (folder / "table.md").read_text().startswith("Net | Acc | Best | Difference | What")


def test_the_demo_folds_the_last_split_net_into_the_baselines_own_text(demo):
    folder, done = demo
    for name in ("train_val.prototxt", "deploy.prototxt"):
        assert (folder / "folded" / name).read_bytes() == (folder / "baseline" / name).read_bytes()
    assert re.search(r"^folded: .*; its outputs differ by \de-0[78]$", done.stdout, re.MULTILINE)


def test_the_demo_splits_the_layer_of_highest_entropy(demo):
    text = demo[1].stdout
    first_row = text.partition("Undefined\n")[2].split()[0]
    assert re.search(rf"^derived1: .*\({first_row}: ", text, re.MULTILINE)


def test_an_earlier_demo_is_replaced_only_with_force(demo):
    folder, _ = demo
    program = "from caffesplit.cli.main import main; main()"
    again = subprocess.run(
        [sys.executable, "-c", program, "demo", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert "an earlier demo is here, expected a new folder" in again.stderr
    assert (folder / "curves.png").exists()


def test_a_demo_that_could_not_begin_is_no_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    for _ in range(2):
        with pytest.raises(DatabaseError, match="scikit-learn is not installed"):
            study.run(tmp_path, never, print)


def never(path):
    raise AssertionError(f"training started in {path}")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["baseline", "data", "table.md", "demo.json"])
def test_what_no_demo_has_written_is_never_removed(tmp_path, name, force):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").touch()
    with pytest.raises(OutputError) as caught:
        study.run(tmp_path, never, print, force)
    assert str(caught.value) == (
        f"{tmp_path}: {name} in this folder, not written by a demo, expected a new folder\n"
        "Give another folder."
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "mine").exists()


class EnoughError(Exception):
    """Stops a demo where its training would begin."""


def begun(folder, force=False):
    def stop(path):
        raise EnoughError

    with pytest.raises(EnoughError):
        study.run(folder, stop, lambda text: None, force)


def test_a_demo_that_was_broken_off_is_replaced_with_force_and_other_files_stay(tmp_path):
    begun(tmp_path)
    (tmp_path / "mine").touch()
    (tmp_path / "derived1").mkdir()
    (tmp_path / "longer1").symlink_to(tmp_path / "data")
    with pytest.raises(OutputError, match="--force to replace it"):
        study.run(tmp_path, never, print)
    begun(tmp_path, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"demo.json", "data", "baseline", "mine"}
