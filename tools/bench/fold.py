"""Splitting nine layers of VGG-16, and folding them back, against copying the weight file."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from pathlib import Path

from tools.bench import vgg
from tools.bench.measure import Result, in_turns
from tools.bench.memory import peak_of

LAYERS = [f"conv{block}_{number}" for block in (3, 4, 5) for number in (1, 2, 3)]
ROUNDS = 5
LARGEST = 4096 * 512 * 7 * 7 * 4 / 1e6
"""Megabytes of fc6."""


def run(paths: list[Path]) -> Result:
    base, source = vgg.experiment(paths[0].parent / "vgg16"), paths[0]
    derived, folded = base.with_name("derived"), base.with_name("folded")
    split(base, source, derived)
    init, copy = derived / "init.caffemodel", base.with_name("copy")
    seconds = in_turns(
        {
            "cp": lambda: subprocess.run(["cp", source, copy], check=True),
            "split": lambda: split(base, source, derived),
            "fold": lambda: fold(derived, init, folded),
        },
        ROUNDS,
    )
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {
            "split": pool.apply(peak_of, (split, base, source, derived)),
            "fold": pool.apply(peak_of, (fold, derived, init, folded)),
        }
    for folder in (base, derived, folded):
        shutil.rmtree(folder)
    copy.unlink()
    rows = [("`cp`", f"{seconds['cp']:.3f} s", "", "")]
    for name, doing in (("split", "split, with SHA-256"), ("fold", "fold, measured")):
        ratio = seconds[name] / seconds["cp"]
        rows.append((doing, f"{seconds[name]:.3f} s", f"{ratio:.2f}× `cp`", "≤ 2×"))
        wanted = f"≤ {2 * LARGEST + 200:.0f} MB"
        rows.append((f"{name}, anonymous memory", f"{peaks[name]:.0f} MB", "", wanted))
    return Result("Nine layers of VGG-16 split and folded back, whole experiments", tuple(rows))


def split(base: Path, weights: Path, out: Path) -> None:
    from caffesplit.experiment import load
    from caffesplit.split.plan import LayerPlan, Plan
    from caffesplit.study.derive import derive

    shapes = {name: shape for name, _, shape in vgg.shapes()}
    layers = []
    for name in LAYERS:
        count = shapes[name][0]
        halves = tuple(range(count // 2)), tuple(range(count // 2, count))
        layers.append(LayerPlan(name, "residual", "half", *halves))
    derive(load(base), Plan(tuple(layers), (0, 1), (0, 1)), weights, out, force=True)


def fold(derived: Path, weights: Path, out: Path) -> None:
    from caffesplit.experiment import load
    from caffesplit.study.fold import write_fold

    write_fold(load(derived), weights, out, force=True)
