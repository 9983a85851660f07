"""Carrying out a study: all its stages for all its seeds, each as far as it is still to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from caffesplit.errors import CaffesplitError
from caffesplit.experiment import Experiment
from caffesplit.study import bases, foresee
from caffesplit.study.stage import Means, check, is_finished, perform, place_of, progress_of
from caffesplit.study.stage_make import Place, Start
from caffesplit.study.stages import Course, Stage, course
from caffesplit.study.study import Study


@dataclass(frozen=True)
class Layout:
    """A study in its folder: its bases, and the stages of each seed."""

    study: Study
    out: Path
    experiments: Mapping[str, Experiment]
    """What the bases are, by name; to be looked at, see `bases.Origin`."""
    courses: Mapping[int, Course]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of all seeds, each once, each after those it needs."""
        return tuple(
            {str(stage): stage for each in self.courses.values() for stage in each.stages}.values()
        )

    def folder(self, stage: Stage) -> Path:
        """The folder of a stage's experiment."""
        if stage.kind == "given":
            return self.experiments[stage.base.name].folder
        return self.out / f"seed{stage.seed}" / stage.name

    def place(self, stage: Stage) -> Place:
        """Where the experiment of a stage that is finished lies."""
        if stage.kind == "given":
            experiment = self.experiments[stage.base.name]
            return Place(experiment.solver_path, experiment.root)
        return place_of(self.folder(stage))

    def progress(self, stage: Stage) -> str:
        """How far a stage has come: one of `stage.PROGRESS`."""
        return progress_of(stage, self.folder(stage))

    def is_finished(self, stage: Stage) -> bool:
        return is_finished(stage, self.folder(stage))

    def check(self, force: bool) -> None:
        """Raise OutputError if a stage's folder is not its own, see `stage.check`."""
        for stage in self.stages:
            check(stage, self.folder(stage), force)


def lay_out(study: Study, out: Path) -> Layout:
    """Find out which stages there are in the folder `out`; nothing is written.

    Raises:
        CaffesplitError: as `bases.origin`, `foresee.check` and `stages.course` say.
    """
    origins = {base.name: bases.origin(base) for base in study.bases}
    experiments = {name: origin.experiment for name, origin in origins.items()}
    foresee.check(study, experiments)
    contents = {name: origin.content for name, origin in origins.items()}
    courses = {seed: course(study, seed, contents) for seed in study.seeds}
    return Layout(study, out.absolute(), experiments, courses)


@dataclass(frozen=True)
class Task:
    """A stage with all that whoever carries it out has to know: values and paths alone."""

    name: str
    stage: Stage
    out: Path
    start: Start
    needs: Mapping[str, str]
    """Its parents, and the names of their tasks."""

    def __call__(self, places: Mapping[str, Place], means: Means) -> Place:
        """Carry it out, given the places of the tasks that it needs."""
        parents = {parent: places[task] for parent, task in self.needs.items()}
        return perform(self.stage, self.out, self.start, parents, means)


def tasks(layout: Layout, starts: Mapping[str, Start]) -> tuple[Task, ...]:
    """A task for each stage, in their order; `starts` are those of the bases, by name."""
    found: dict[str, Task] = {}
    for each in layout.courses.values():
        names = {stage.name: str(stage) for stage in each.stages}
        for stage in each.stages:
            start, needs = starts[stage.base.name], {p: names[p] for p in stage.parents}
            found[str(stage)] = Task(str(stage), stage, layout.folder(stage), start, needs)
    return tuple(found.values())


Result: TypeAlias = Place | CaffesplitError | None
"""Where a task's experiment lies, or why there is none; None if one that it needs has failed."""

Workers: TypeAlias = Callable[[Sequence[Task]], Iterator[tuple[Task, Result]]]
"""Carries out tasks, each after those it needs, and yields their results as they come."""


def result(task: Task, found: Mapping[str, Result], means: Means) -> Result:
    """Carry out a task, given the results of those that it needs."""
    places = {name: place for name, place in found.items() if isinstance(place, Place)}
    if not places.keys() >= set(task.needs.values()):
        return None
    try:
        return task(places, means)
    except CaffesplitError as error:
        return error


def in_turn(means: Means) -> Workers:
    """One task after the other, in this process."""

    def work(tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        found: dict[str, Result] = {}
        for task in tasks:
            found[task.name] = result(task, found, means)
            yield task, found[task.name]

    return work
