"""The whole main job on bundled real data: from training to split, trained, beside its controls.

A small net learns scikit-learn's handwritten digits; its layer of highest TPM entropy is split
and the derived net trained, twice. Beside that stand two controls of the same length, which start
from the same snapshots with the same solver: the baseline trained on, and random splits of the
same sizes. At last the split net is folded back into the baseline's architecture.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit import zoo
from caffesplit.data import digits
from caffesplit.errors import Location, OutputError
from caffesplit.experiment import Experiment, load
from caffesplit.formats.output import replacing
from caffesplit.metric.trajectory import scores
from caffesplit.report import figures
from caffesplit.report.runs import Run, read_runs, results
from caffesplit.report.scores import score_text
from caffesplit.report.tables import Table
from caffesplit.split.plan import Plan
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive
from caffesplit.study.fold import write_fold

WINDOW = (600, 2000)
"""Of each training; before 600 all kernels still go straight."""

NETS = {
    "baseline": "the net as it is",
    "derived1": "baseline, the layer of highest entropy split by TPM",
    "derived2": "derived1, split again",
    "longer1": "control: baseline trained on",
    "longer2": "control: longer1 trained on",
    "random1": "control: derived1's layer, kernels drawn at random",
    "random2": "control: random1, split again at random",
}
"""Folder of each experiment → what it is, in the order of the table."""

OWN = ("data", *NETS, "folded", "curves.png", "tpm.png", "table.md")
"""All that the demo writes after its marker, and all that it removes before it starts anew."""

MARKER = "demo.json"
MARK = '{"what": "a demo of caffesplit; `caffesplit demo --force` replaces it"}\n'
"""Written first of all; a folder without it is somebody's own."""

NOISE = 0.015
"""Two standard errors of an accuracy near 0.95 on 1,000 images."""

Train = Callable[[Path], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Results:
    """What the demo came to, and where it lies."""

    folder: Path
    table: Table
    pictures: Mapping[Path, str]
    """Each picture, and what it shows."""


def run(folder: Path, train: Train, say: Say, force: bool = False) -> Results:
    """Do the main job in `folder`; `train` trains the experiment in a folder, `say` tells what
    comes next.

    Raises:
        OutputError: if `folder` holds an earlier demo, and `force` is false; or files that are
            no demo's, and have the names of its own.
        TrainingError: if a training fails.
    """
    _clear(folder, force)
    with replacing(folder / MARKER, force=True) as (staged,):
        staged.write_text(MARK, encoding="utf-8")
    say("Handwritten digits → LMDB; a net of three convolutions")
    digits.write(folder / "data")
    zoo.write("digits", folder / "baseline", folder, folder / "data")
    say(f"baseline: {NETS['baseline']}")
    train(folder / "baseline")

    baseline = load(folder / "baseline", folder)
    (scored,) = scores(baseline.history(), [WINDOW], baseline.kernel_layers)
    say(f"How straight did the baseline's kernels travel?\n{score_text(scored)}")
    figures.save(figures.tpm_histograms(scored), folder / "tpm.png")

    plans: dict[str, Callable[[Experiment], Plan]] = {
        "derived": lambda base: decide(base, WINDOW, 1),
        "longer": lambda base: Plan((), WINDOW, WINDOW),
        "random": lambda base: decide(base, WINDOW, 1, partition="random"),
    }
    for chain, plan_for in plans.items():
        base = "baseline"
        for generation in (1, 2):
            name = f"{chain}{generation}"
            _derive(folder, base, name, plan_for, say)
            train(folder / name)
            base = name

    last = load(folder / "derived2", folder)
    folded = write_fold(last, last.snapshots()[-1].path, folder / "folded")
    before, after = (
        sum(getattr(each, name) for each in folded.folded) for name in ("before", "after")
    )
    say(
        f"folded: derived2 in the baseline's architecture, {before:,} → {after:,} parameters of "
        f"what was split; its outputs differ by {folded.deviation:.0e}"
    )

    runs = read_runs([folder / name / "train.log" for name in NETS])
    figures.save(figures.curves(runs, avg=3), folder / "curves.png")
    table = result_table(runs)
    with replacing(folder / "table.md") as (staged,):
        staged.write_text(table.markdown(), encoding="utf-8")
    pictures = {
        folder / "curves.png": "loss and accuracy of every net over its training",
        folder / "tpm.png": "how straight the baseline's kernels travelled, layer by layer",
    }
    return Results(folder, table, pictures)


def result_table(runs: Sequence[Run]) -> Table:
    """Net, final and best accuracy, difference to the baseline, and what the net is."""
    found = results(runs)
    rows = []
    for result in found:
        assert result.final is not None
        assert result.best is not None
        assert found[0].final is not None
        rows.append(
            (
                result.net,
                f"{result.final.value:.4f}",
                f"{result.best.value:.4f}",
                f"{result.final.value - found[0].final.value:+.4f}",
                NETS[result.net],
            )
        )
    return Table(("Net", "Acc", "Best", "Difference", "What it is"), tuple(rows))


def _clear(folder: Path, force: bool) -> None:
    """Remove an earlier demo, and nothing else that may lie in the folder."""
    found = [folder / name for name in (MARKER, *OWN) if (folder / name).exists()]
    marked = folder / MARKER in found and _text(folder / MARKER) == MARK
    if found and not marked:
        raise OutputError(
            f"{', '.join(path.name for path in found)} in this folder, not written by a demo",
            "a new folder",
            "Give another folder.",
            Location(str(folder)),
        )
    if found not in ([], [folder / MARKER]) and not force:
        raise OutputError(
            "an earlier demo is here",
            "a new folder",
            "Give another folder, or --force to replace it.",
            Location(str(folder)),
        )
    # The marker goes last: a removal that is broken off can be taken up again.
    for path in reversed(found):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _derive(
    folder: Path, base: str, name: str, plan_for: Callable[[Experiment], Plan], say: Say
) -> None:
    experiment = load(folder / base, folder)
    plan = plan_for(experiment)
    derive(experiment, plan, experiment.weights_path(WINDOW[1]), folder / name)
    splits = "".join(
        f" ({layer.name}: {len(layer.fast)} fast, {len(layer.slow)} slow kernels)"
        for layer in plan.layers
    )
    say(f"{name}: {NETS[name]}{splits}")
