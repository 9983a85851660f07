"""Carrying out a study: all its stages for all its seeds, each as far as it is still to be done."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from caffesplit.data.prepare import Progress
from caffesplit.errors import CaffesplitError, Location, StudyError
from caffesplit.formats.output import replacing
from caffesplit.study import bases
from caffesplit.study.stage import Means, is_finished, perform, place_of
from caffesplit.study.stage_make import Place, Start
from caffesplit.study.stages import Course, Stage, course
from caffesplit.study.study import Study

STUDY_FILE = "study.toml"


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


Result: TypeAlias = Place | CaffesplitError
"""Where a task's experiment lies, or why there is none."""

Workers: TypeAlias = Callable[[Sequence[Task]], Iterator[tuple[Task, Result]]]
"""Carries out tasks, each after those it needs, and yields their results as they come."""


@dataclass(frozen=True)
class Layout:
    """A study in its folder: what its bases start from, and the stages of each seed."""

    study: Study
    out: Path
    starts: Mapping[str, Start]
    courses: Mapping[int, Course]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those of all seeds, each once, each after those it needs."""
        found: dict[str, Task] = {}
        for each in self.courses.values():
            names = {stage.name: str(stage) for stage in each.stages}
            for stage in each.stages:
                start, needs = self.starts[stage.base.name], {p: names[p] for p in stage.parents}
                found[str(stage)] = Task(str(stage), stage, self.folder(stage), start, needs)
        return tuple(found.values())

    def folder(self, stage: Stage) -> Path:
        """The folder of a stage's experiment."""
        if stage.kind == "given":
            return self.starts[stage.base.name].place.load().folder
        return self.out / f"seed{stage.seed}" / stage.name

    def place(self, stage: Stage) -> Place:
        """Where the experiment of a stage that is finished lies."""
        start = self.starts[stage.base.name]
        return start.place if stage.kind == "given" else place_of(self.folder(stage))

    def is_finished(self, stage: Stage) -> bool:
        return is_finished(stage, self.folder(stage))


def lay_out(
    study: Study,
    out: Path,
    data: Path,
    cache: Path,
    archives: Sequence[Path],
    progress: Progress,
) -> Layout:
    """Prepare the bases' data, and find out which stages there are.

    Raises:
        CaffesplitError: as `bases.start` and `stages.course` say.
    """
    starts = {
        base.name: bases.start(base, out, data, cache, archives, progress) for base in study.bases
    }
    contents = {name: bases.content(start) for name, start in starts.items()}
    courses = {seed: course(study, seed, contents) for seed in study.seeds}
    return Layout(study, out, starts, courses)


@contextmanager
def alone(out: Path, text: str) -> Iterator[None]:
    """Keep the study's text in its folder, and others from running a study there meanwhile.

    Raises:
        StudyError: if a study is being run there.
    """
    path = out / STUDY_FILE
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with replacing(path, force=True) as (staged,):
            staged.write_text(text, encoding="utf-8")
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                "a study is being run here already",
                "one at a time",
                "Wait for its end, or stop it.",
                Location(str(out)),
            ) from error
        yield


def in_turn(means: Means) -> Workers:
    """One task after the other, in this process."""

    def work(tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        places: dict[str, Place] = {}
        for task in tasks:
            if places.keys() >= set(task.needs.values()):
                try:
                    places[task.name] = task(places, means)
                    yield task, places[task.name]
                except CaffesplitError as error:
                    yield task, error

    return work
