"""What a study leaves for people to look at: its table, curves, TPM and norms, and a report."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from caffesplit.errors import LogError
from caffesplit.formats.output import replacing
from caffesplit.metric.trajectory import Window, norms, scores
from caffesplit.report import beside, figures, generations
from caffesplit.report import runs as logs
from caffesplit.report.beside import Measure
from caffesplit.report.generations import Point
from caffesplit.report.page import page
from caffesplit.report.runs import Run
from caffesplit.report.tables import Table
from caffesplit.study import comparison, report
from caffesplit.study.comparison import Row, Values, rows, table
from caffesplit.study.run import Layout
from caffesplit.study.stage_files import read_state
from caffesplit.study.stages import Stage
from caffesplit.study.study import Study
from caffesplit.study.trees import logs_in

AVG = 3
"""Rows that a point of the curves is the mean of."""


def write(layout: Layout, failed: Mapping[str, str] | None = None) -> tuple[Table, dict[Path, str]]:
    """Write what there is to look at into the study's folder; its table, and each path with what
    it shows. `failed` has, for stages by their names, why there is nothing of them.

    table.md and table.json; generations.png of chains; curves.png of the first seed; tpm.md and
    tpm.png, where the study measures windows; report.html of the first seed, where plotly and
    jinja2 are installed.

    Raises:
        LogError: if no test has the study's metric.
    """
    study, out = layout.study, layout.out
    values, smaller = _values(layout)
    first = next(iter(layout.courses.values()))
    found = rows(first.stages, first.comparisons, values, smaller)
    shown = table(found, study.metric or "Accuracy")
    notes = [*_undefined(values), *_resumed(layout), *_failed(failed or {})]
    title = [study.title] if study.title else []
    _write(
        out / "table.md", "\n".join([*(f"{each}\n" for each in title), shown.markdown(), *notes])
    )
    _write(out / "table.json", json.dumps(_as_json(study, found, failed or {}), indent=1) + "\n")
    written = {out / "table.md": "every net, its mean over seeds, and how it compares"}
    if points := _points(first.stages, found):
        label = study.metric or "Accuracy"
        figures.save(generations.generations(points, label), out / "generations.png", force=True)
        written[out / "generations.png"] = "what each chain and control reached, as a picture"
    seen = [run for stage in first.stages if (run := _run(layout, stage)) is not None]
    if seen:
        figures.save(figures.curves(seen, avg=AVG), out / "curves.png", force=True)
        written[out / "curves.png"] = f"loss and accuracy of seed {study.seeds[0]}"
    if study.windows and (moved := measured(layout)):
        _write(out / "tpm.md", _moved(moved).markdown())
        figures.save(beside.tpm_and_norms(moved), out / "tpm.png", force=True)
        written[out / "tpm.md"] = "TPM and norms of the bases over the study's windows"
        written[out / "tpm.png"] = "the same as a picture, a column for each base"
    if seen and (text := _page(layout, first.stages)) is not None:
        _write(out / "report.html", text)
        written[out / "report.html"] = f"all nets of seed {study.seeds[0]} on one page"
    return shown, written


def _values(layout: Layout) -> tuple[dict[str, dict[int, float]], bool]:
    """The last test of each net for each seed, and whether less of it is better."""
    study = layout.study
    found: dict[str, dict[int, float]] = {}
    names: list[str | None] = []
    outputs: dict[str, None] = {}
    for stage in layout.stages:  # A base that was trained before comes once, and counts once.
        run = _run(layout, stage)
        if run is not None:
            outputs |= dict.fromkeys(logs.metric_outputs([run]))
            names.append(logs.output_name(run, study.metric))
            if series := logs.scores(run, study.metric).get(study.test_net):
                found.setdefault(stage.name, {})[stage.seed] = series[-1].value
    if names and not found:
        raise LogError(
            f'no test output is named "{study.metric or "accuracy"}", of test net {study.test_net}',
            f"one of {', '.join(outputs)}" if outputs else "nets that are tested",
            "Correct `metric` and `test_net` in the study file; nothing is trained again for that.",
        )
    return found, any(name is not None and logs.smaller_is_better(name) for name in names)


def _points(stages: Sequence[Stage], found: Sequence[Row]) -> list[Point]:
    """The nets of chains, each line from the net that it begins with."""
    spread = {row.name: comparison.spread(row.values) for row in found if row.values}
    points = []
    for stage in stages:
        if stage.generation is not None and stage.name in spread:
            line, number = _line(stage.name)
            points.append(Point(line, number, *spread[stage.name]))
            if number == 1 and stage.parents[0] in spread:
                points.append(Point(line, 0, *spread[stage.parents[0]]))
    return points


def _line(name: str) -> tuple[str, int]:
    """The line of a net's name, and its generation."""
    line = name.rstrip("0123456789")
    return line, int(name.removeprefix(line))


def measured(layout: Layout) -> tuple[Measure, ...]:
    """TPM and norms of the bases' layers over the study's windows, means over the seeds."""
    study = layout.study
    found: dict[tuple[str, str, Window], list[tuple[float, ...]]] = {}
    for stage in layout.stages:
        if stage.kind in ("base", "given") and layout.is_finished(stage):
            experiment = layout.place(stage).load()
            history = experiment.history()
            names = study.layers or experiment.kernel_layers
            scored = scores(history, study.windows, names)
            for window, norm in zip(scored, norms(history, study.windows, names), strict=True):
                for layer, ends in zip(window.layers, norm.layers, strict=True):
                    key = stage.name, layer.name, window.window
                    values = layer.tpm, ends.start, ends.end, window.random_walk
                    found.setdefault(key, []).append(values)
    return tuple(
        Measure(*key, *(statistics.fmean(each) for each in zip(*seeds, strict=True)))
        for key, seeds in found.items()
    )


def _moved(measures: Sequence[Measure]) -> Table:
    return Table(
        ("Net", "Layer", "Window", "TPM", "Norm at its start", "at its end"),
        tuple(
            (
                each.net,
                each.layer,
                "{}:{}".format(*each.window),
                *(f"{value:.4f}" for value in (each.tpm, each.start, each.end)),
            )
            for each in measures
        ),
    )


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


def _page(layout: Layout, stages: Sequence[Stage]) -> str | None:
    """The report; of one seed, since curves of all of them hide each other."""
    if find_spec("plotly") is None or find_spec("jinja2") is None:
        return None
    done = [layout.folder(stage) for stage in stages if layout.is_finished(stage)]
    read = report.read(done, layout.study.windows, layout.study.metric)
    return page(read, f"Written by caffesplit {version('caffesplit')}.")


def _undefined(values: Mapping[str, Values]) -> list[str]:
    names = [
        f"seed{seed}/{name}"
        for name, found in values.items()
        for seed, value in found.items()
        if not math.isfinite(value)
    ]
    return [f"No number in the last test, and left out: {', '.join(names)}.\n"] if names else []


def _resumed(layout: Layout) -> list[str]:
    """What a reader has to know of trainings that were broken off."""
    broken = []
    for stage in layout.stages:
        state = read_state(layout.folder(stage)) if stage.kind != "given" else None
        if state is not None and state.resumed:
            broken.append(f"{stage} (from {', '.join(map(str, state.resumed))})")
    if not broken:
        return []
    return [
        f"Broken off and gone on with from a snapshot: {', '.join(broken)}. A solver state holds "
        "neither the place in the data nor the random numbers, so an unbroken run would differ a "
        "little.\n"
    ]


def _failed(failed: Mapping[str, str]) -> list[str]:
    return [f"Failed: {name}: {why}\n" for name, why in failed.items()]


def _as_json(study: Study, found: Sequence[Row], failed: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "title": study.title,
        "nets": [
            {
                "name": row.name,
                "what": row.what,
                "values": {str(seed): value for seed, value in row.values.items()},
                "difference": row.difference
                and {
                    "control": row.difference.control,
                    "mean": row.difference.mean,
                    "half_width_95": row.difference.half_width,
                    "pairs": row.difference.pairs,
                },
            }
            for row in found
        ],
        "failed": dict(failed),
    }


def _write(path: Path, text: str) -> None:
    with replacing(path, force=True) as (staged,):
        staged.write_text(text, encoding="utf-8")
