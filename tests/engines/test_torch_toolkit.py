"""What the torch engine has trained is an experiment like any other to the whole toolkit."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from real_caffe import outputs_in_test

from caffesplit.cli.main import cli
from caffesplit.engines import testing, torch_test


def caffesplit(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def train(folder: Path) -> None:
    caffesplit("train", folder, "--engine", "torch")


def outputs(net: Path, weights: Path, root: Path) -> dict[str, float]:
    asked = testing.Test(net, weights, root, iterations=10)
    return dict(torch_test.run(asked, device="cpu").values)


def test_a_net_is_trained_scored_split_trained_on_folded_and_shown(caffe, digits_root):
    base, derived, folded = (digits_root / name for name in ("baseline", "derived1", "folded"))
    out = digits_root / "out"
    train(base)
    caffesplit("tpm", base, "--window", "50:100")
    caffesplit("norms", base, "--window", "50:100")
    what = ("--window", "50:100", "--layer", "conv2", "--momentum", "--set", "max_iter=200")
    caffesplit("split", base, "-o", derived, *what)
    train(derived)
    caffesplit("check", derived)
    caffesplit("fold", derived, "-o", folded)
    assert "\nderived1 " in caffesplit("log", base, derived).stdout
    caffesplit("log", base, "--csv", out)
    caffesplit("plot", base, derived, "-o", out / "curves.png")
    caffesplit("report", base, derived, "-o", out / "report.html")
    assert {"curves.png", "report.html"} < {path.name for path in out.iterdir()}
    assert (folded / "train_val.prototxt").read_bytes() == (
        base / "train_val.prototxt"
    ).read_bytes()

    pairs = (
        (derived, derived / "digits_iter_200.caffemodel"),
        (folded, folded / "folded.caffemodel"),
    )
    ours, theirs = [], []
    for folder, weights in pairs:
        net = folder / "train_val.prototxt"
        ours.append(outputs(net, weights, digits_root))
        theirs.append(outputs_in_test(caffe, net, weights))
    assert ours[0] == pytest.approx(ours[1], rel=1e-4)
    assert ours == [pytest.approx(each, rel=1e-4) for each in theirs]
    assert ours[0]["accuracy"] > 0.15
