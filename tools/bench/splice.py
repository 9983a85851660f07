"""Splitting one layer of VGG-16, against `cp` of its weights."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from caffesplit.experiment import load
from caffesplit.formats import caffemodel
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, rewrite_weights, split
from caffesplit.study.derive import derive
from tools.bench import vgg16
from tools.bench.measure import medians

LAYER = "conv3_2"
ROUNDS = 7


def run(say: Callable[[str], None]) -> None:
    """Measure and print ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (source,) = vgg16.write_snapshots(folder, 1)
        vgg16.write_experiment(folder)
        experiment = load(folder, folder)
        outputs = vgg16.SHAPES[LAYER][0]
        halves = tuple(range(outputs // 2)), tuple(range(outputs // 2, outputs))
        plan = Plan((LayerPlan(LAYER, "residual", "half", *halves),), (0, 1), (0, 1))
        change = split(experiment.net, caffemodel.read(source), plan, Setting())
        records = rewrite_weights(rewrite_net(experiment.net, change), change)
        copy, spliced, derived = folder / "copy", folder / "spliced", folder / "derived"

        def copied() -> None:
            copy.unlink(missing_ok=True)
            subprocess.run(["cp", source, copy], check=True)

        def splicing() -> None:
            spliced.unlink(missing_ok=True)
            caffemodel.splice(source, spliced, records)

        def deriving() -> None:
            shutil.rmtree(derived, ignore_errors=True)
            derive(experiment, plan, source, derived)

        taken = medians({"cp": copied, "splice": splicing, "derive": deriving}, ROUNDS)
        say(f"one layer of VGG-16 ({source.stat().st_size / 1e6:.0f} MB) split, page cache warm")
        say(f"cp of the weights                       {taken['cp']:6.3f} s")
        say(f"weights spliced                         {taken['splice']:6.3f} s")
        say(f"whole split, with SHA-256 of the input  {taken['derive']:6.3f} s")
        say(f"splice / cp              {taken['splice'] / taken['cp']:6.2f}  (wanted: at most 1.5)")
        say(f"whole split / cp         {taken['derive'] / taken['cp']:6.2f}")
