"""What a study leaves for people to look at: its table, curves, TPM and norms, and a report."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from caffesplit.errors import CaffesplitError, LogError
from caffesplit.formats.output import replacing
from caffesplit.metric.trajectory import norms, scores
from caffesplit.report import figures
from caffesplit.report import runs as logs
from caffesplit.report.page import page
from caffesplit.report.runs import Run
from caffesplit.report.tables import Table
from caffesplit.study import report
from caffesplit.study.comparison import Row, Values, rows, table
from caffesplit.study.run import Layout
from caffesplit.study.stage_files import read_state
from caffesplit.study.stages import Stage
from caffesplit.study.study import Study
from caffesplit.study.trees import logs_in

AVG = 3
"""Rows that a point of the curves is the mean of."""


def compare(layout: Layout) -> tuple[Row, ...]:
    """A row for each net of the study, from the logs of the stages that are finished."""
    values: dict[str, dict[int, float]] = {}
    smaller = False
    for seed, course in layout.courses.items():
        for stage in course.stages:
            run = _run(layout, stage)
            if run is not None:
                name = logs.output_name(run, layout.study.metric)
                smaller = smaller or (name is not None and logs.smaller_is_better(name))
                series = logs.scores(run, layout.study.metric).get(layout.study.test_net, ())
                if series:
                    values.setdefault(stage.name, {})[seed] = series[-1].value
    first = next(iter(layout.courses.values()))
    return rows(first.stages, first.comparisons, values, smaller)


def resumed(layout: Layout) -> dict[str, tuple[int, ...]]:
    """The stages whose training was broken off, and the iterations from which it went on."""
    found: dict[str, tuple[int, ...]] = {}
    for task in layout.tasks:
        state = read_state(task.out) if task.stage.kind != "given" else None
        if state is not None and state.resumed:
            found[task.name] = state.resumed
    return found


def write(layout: Layout) -> tuple[Table, dict[Path, str]]:
    """Write what there is to look at into the study's folder; its table, and each path with what
    it shows.

    table.md and table.json; curves.png of the first seed; tpm.md and tpm.png, where the study
    measures windows; report.html, where plotly and jinja2 are installed.
    """
    study, out = layout.study, layout.out
    found = compare(layout)
    shown = table(found, study.metric or "Accuracy")
    _write(out / "table.md", f"{_title(study)}{shown.markdown()}{_notes(layout)}")
    _write(out / "table.json", json.dumps(_as_json(study, found), indent=1) + "\n")
    written = {out / "table.md": "every net, its mean over seeds, and how it compares"}
    first = next(iter(layout.courses.values()))
    seen = [run for stage in first.stages if (run := _run(layout, stage)) is not None]
    if seen:
        figures.save(figures.curves(seen, avg=AVG), out / "curves.png", force=True)
        written[out / "curves.png"] = f"loss and accuracy of seed {study.seeds[0]}"
    if study.windows:
        _write(out / "tpm.md", measured(layout).markdown())
        written[out / "tpm.md"] = "TPM and norms of the bases over the study's windows"
    try:
        text = page(_report(layout), f"Written by caffesplit {version('caffesplit')}.")
    except CaffesplitError:
        return shown, written  # Without plotly, or with nothing trained yet.
    _write(out / "report.html", text)
    return shown, written | {out / "report.html": "all of it on one page"}


def measured(layout: Layout) -> Table:
    """TPM and norms of the bases' layers over the study's windows, means over the seeds."""
    study = layout.study
    found: dict[tuple[str, str, tuple[int, int]], list[tuple[float, float, float]]] = {}
    for course in layout.courses.values():
        for stage in course.stages:
            if stage.kind in ("base", "given") and layout.is_finished(stage):
                experiment = layout.place(stage).load()
                history = experiment.history()
                names = study.layers or experiment.kernel_layers
                scored = scores(history, study.windows, names)
                for window, norm in zip(scored, norms(history, study.windows, names), strict=True):
                    for layer, ends in zip(window.layers, norm.layers, strict=True):
                        key = stage.name, layer.name, window.window
                        found.setdefault(key, []).append((layer.tpm, ends.start, ends.end))
    return Table(
        ("Net", "Layer", "Window", "TPM", "Norm at its start", "at its end"),
        tuple(
            (
                net,
                layer,
                f"{first}:{last}",
                *(f"{_mean(each):.4f}" for each in zip(*all_, strict=True)),
            )
            for (net, layer, (first, last)), all_ in found.items()
        ),
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _run(layout: Layout, stage: Stage) -> Run | None:
    """A stage's log, if it is finished and has one."""
    found = logs_in(layout.folder(stage))
    if not found or not layout.is_finished(stage):
        return None
    try:
        (run,) = logs.read_runs(found[-1:])
    except LogError:
        return None
    return Run(stage.name, run.log)


def _report(layout: Layout) -> Any:
    done = [task.out for task in layout.tasks if layout.is_finished(task.stage)]
    return report.read(done, layout.study.windows, layout.study.metric)


def _title(study: Study) -> str:
    return f"{study.title}\n\n" if study.title else ""


def _notes(layout: Layout) -> str:
    """What a reader of the table has to know besides."""
    broken = resumed(layout)
    if not broken:
        return ""
    names = ", ".join(f"{name} (from {', '.join(map(str, at))})" for name, at in broken.items())
    return (
        f"\nBroken off and gone on with from a snapshot: {names}. A solver state holds neither "
        "the place in the data nor the random numbers, so an unbroken run would differ a little.\n"
    )


def _as_json(study: Study, found: Sequence[Row]) -> Mapping[str, Any]:
    return {
        "title": study.title,
        "nets": [
            {
                "name": row.name,
                "what": row.what,
                "values": _by_seed(row.values),
                "difference": None
                if row.difference is None
                else {
                    "control": row.difference.control,
                    "mean": row.difference.mean,
                    "half_width_95": row.difference.half_width,
                },
            }
            for row in found
        ],
    }


def _by_seed(values: Values) -> dict[str, float]:
    return {str(seed): value for seed, value in values.items()}


def _write(path: Path, text: str) -> None:
    with replacing(path, force=True) as (staged,):
        staged.write_text(text, encoding="utf-8")
