"""The stages of a study for one seed: which trainings there are, and what each starts from.

A stage's key is a hash of all that its result depends on. Where two chains ask for the same
control (the base trained on, mostly), the keys agree and it is trained once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from caffesplit.errors import StudyError
from caffesplit.study.study import Base, Chain, Generation, Study


@dataclass(frozen=True)
class Stage:
    """One training, and what it is made of."""

    seed: int
    name: str
    """Of its folder and its row; it is the same for all seeds."""
    kind: str
    """base, given (a base that is trained already), split, longer, random, inverse or scratch."""
    what: str
    """In a few words."""
    base: Base
    parents: tuple[str, ...]
    """The stages that it needs: the one it starts from, then the split that it copies or takes
    the place of."""
    generation: Generation | None
    key: str

    def __str__(self) -> str:
        return self.name if self.kind == "given" else f"seed{self.seed}/{self.name}"


@dataclass(frozen=True)
class Comparison:
    """A split, and the controls that had as much training."""

    split: str
    controls: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """All stages for one seed, each after those it needs; and what is compared with what."""

    stages: tuple[Stage, ...]
    comparisons: tuple[Comparison, ...]


def course(study: Study, seed: int, contents: Mapping[str, str]) -> Course:
    """The stages of a study for one of its seeds; `contents` is a hash of each base's files.

    Raises:
        StudyError: if two stages would have the same name.
    """
    draft = _Draft(seed)
    for base in study.bases:
        draft.add_base(base, contents[base.name])
    controls: dict[str, tuple[str, ...]] = {}
    for chain in study.chains:
        for comparison in _chain(draft, chain, study.base(chain.base)):
            before = controls.get(comparison.split, ())  # Chains that begin alike share a split.
            controls[comparison.split] = tuple(dict.fromkeys((*before, *comparison.controls)))
    comparisons = tuple(Comparison(split, found) for split, found in controls.items())
    return Course(tuple(draft.stages.values()), comparisons)


class _Draft:
    """Stages while they are added: each name once, each key once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.stages: dict[str, Stage] = {}

    def add_base(self, base: Base, content: str) -> None:
        kind, seed = ("given", 0) if base.trained else ("base", self.seed)
        spec = [kind, seed, content, base.lsuv, base.shuffle_labels, base.assignments]
        self._add(Stage(seed, base.name, kind, _about(base), base, (), None, _hash(spec)))

    def add(
        self,
        names: Sequence[str],
        kind: str,
        what: str,
        base: Base,
        parents: Sequence[str],
        generation: Generation | None,
        depends: Any,
    ) -> str:
        """Add a stage that depends on its parents and on `depends`, under the first of `names`
        that is free, unless there is one that is the same; return its name."""
        spec = [kind, self.seed, [self.stages[parent].key for parent in parents], depends]
        key = _hash(spec)
        for stage in self.stages.values():
            if stage.key == key:
                return stage.name
        name = next((name for name in names if name not in self.stages), names[-1])
        self._add(Stage(self.seed, name, kind, what, base, tuple(parents), generation, key))
        return name

    def _add(self, stage: Stage) -> None:
        if stage.name in self.stages:
            raise StudyError(
                f"two nets of the study would be called {stage.name!r}",
                "a name for each",
                "Rename a base or a chain.",
            )
        self.stages[stage.name] = stage


def _chain(draft: _Draft, chain: Chain, base: Base) -> list[Comparison]:
    splits: list[str] = []
    controls: list[dict[str, str]] = [{} for _ in chain.generations]
    for number, generation in enumerate(chain.generations, start=1):
        parent = splits[-1] if splits else base.name
        splits.append(
            draft.add(
                [f"{chain.name}{number}"], "split", f"{parent}, {_described(generation)}",
                base, [parent], generation, asdict(generation),
            )
        )  # fmt: skip
    for control in chain.controls:
        parent = base.name
        if control == "scratch":
            parent = draft.add(
                ["scratch", f"{chain.name}_scratch"], control,
                f"control: the shape of {splits[-1]}, trained from its fillers", base,
                [base.name, splits[-1]], None, (),
            )  # fmt: skip
        for number, (generation, split) in enumerate(
            zip(chain.generations, splits, strict=True), start=1
        ):
            parent = _control(draft, chain, control, number, generation, parent, split, base)
            if control != "scratch" or split == splits[-1]:
                controls[number - 1][control] = parent
    return [
        Comparison(split, tuple(found.values()))
        for split, found in zip(splits, controls, strict=True)
    ]


def _control(
    draft: _Draft,
    chain: Chain,
    control: str,
    number: int,
    generation: Generation,
    parent: str,
    split: str,
    base: Base,
) -> str:
    names = [f"{control}{number}", f"{chain.name}_{control}{number}"]
    if control in ("longer", "scratch"):
        depends = (
            generation.window, generation.start, generation.momentum, generation.assignments,
        )  # fmt: skip
        what = f"control: {parent} trained on"
        return draft.add(names, "longer", what, base, [parent], generation, depends)
    how = "kernels drawn at random" if control == "random" else "fast and slow swapped"
    what = f"control: {parent}, the layers of {split} split, {how}"
    return draft.add(names, control, what, base, [parent, split], generation, asdict(generation))


def _about(base: Base) -> str:
    words = [f"{base.zoo} of the zoo" if base.zoo else f"{base.experiment}"]
    if base.trained:
        words.append("trained before")
    if base.lsuv:
        words.append("LSUV weights")
    if base.shuffle_labels:
        words.append(f"{base.shuffle_labels:.0%} of the labels shuffled")
    return ", ".join(words + list(base.assignments))


def _described(generation: Generation) -> str:
    layers = generation.layers
    if isinstance(layers, int):
        chosen = (
            "layer of highest entropy" if layers == 1 else f"{layers} layers of highest entropy"
        )
    else:
        chosen = ", ".join(layers)
    return f"{chosen} split ({generation.method}, {generation.partition})"


def _hash(spec: Any) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
