"""The data that a study prepares."""

from __future__ import annotations

from caffesplit import experiment, zoo
from caffesplit.data import digits
from caffesplit.study.study_data import shuffled


def test_shuffled_copies_of_sets_of_one_name_are_kept_apart(tmp_path):
    found = []
    for name in ("plain", "prepared_otherwise"):
        digits.write(tmp_path / name)
        solver = zoo.write("digits", tmp_path / f"exp_{name}", tmp_path, tmp_path / name)
        loaded = experiment.load(solver, tmp_path)
        found += shuffled(loaded, tmp_path / "data", 1.0).values()
    assert len(set(found)) == 2
    assert all(path.is_dir() for path in found)
