"""Study files: chains of splits with their controls, as TOML that people write.

    title = "Does choosing kernels by TPM help?"
    seeds = [1, 2, 3]

    [bases.baseline]
    zoo = "digits"

    [chains.residual]
    window = [600, 2000]
    top = 1
    generations = 2
    controls = ["longer", "random"]

What each key means stands in docs/studies.md and `study.study`; a generation also has those of
`split.forms.Setting`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from caffesplit.errors import Location, SplitError, StudyError
from caffesplit.split.forms import Setting
from caffesplit.split.partition import SPECIFICATIONS
from caffesplit.split.plan import METHODS
from caffesplit.study.study import CONTROLS, RESUME, Base, Chain, Generation, Study
from caffesplit.study.toml_reader import Reader

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SEED = 2**31 - 1
"""Of a study's seeds. Caffe takes a negative one for none at all, and keeps 32 bits of others."""

PARTITION = re.compile(
    r"(inverse:)?(half|mean|threshold:[+-]?\d*\.?\d+|count:[1-9]\d*|random(:[1-9]\d*)?)"
)


def packaged() -> dict[str, str]:
    """The studies that come with the package: name → text."""
    folder = files("caffesplit.study") / "studies"
    found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in found
        if entry.name.endswith(".toml")
    }


def parse(text: str, path: str = "<text>", folder: Path | None = None) -> Study:
    """The study in a text; paths in it start from `folder`.

    Raises:
        StudyError: if it is no TOML, a key is unknown or missing, or a value wrong; with the key.
    """
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # A TOMLDecodeError, or a number of thousands of digits.
        raise StudyError(
            f"no TOML ({error})",
            "a study file",
            "`caffesplit run digits-residual-chain --show` prints one.",
            Location(path),
        ) from None
    return _Reader(path, folder or Path()).study(content)


@dataclass(frozen=True)
class _Reader(Reader):
    """Reads a study; paths in it start from `folder`."""

    folder: Path

    def study(self, content: Mapping[str, Any]) -> Study:
        known = ("title", "bases", "chains", "seeds", "metric", "test_net", "resume", "measure")
        self.known(content, "", known)
        bases = tuple(
            self._base(name, value)
            for name, value in self._tables(content, "bases", required=True).items()
        )
        chains = self._tables(content, "chains", required=False)
        seeds = self.integers(content.get("seeds", [1]), "seeds")
        if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= e <= MAX_SEED for e in seeds):
            self.refuse("seeds", seeds, f"one or more from 0 to {MAX_SEED}, each once")
        measure = content.get("measure", {})
        self.known(self.take(measure, "measure", dict), "measure", ("windows", "layers"))
        return Study(
            self.take(content.get("title", ""), "title", str),
            bases,
            tuple(self._chain(name, value, bases) for name, value in chains.items()),
            seeds,
            self.optional(content, "", "metric", str),
            self.count(content.get("test_net", 0), "test_net", least=0),
            self.choice(content.get("resume", RESUME[0]), "resume", RESUME),
            tuple(
                self.window(each, "measure.windows")
                for each in self.take(measure.get("windows", []), "measure.windows", list)
            ),
            self.strings(measure.get("layers", []), "measure.layers"),
        )

    def _base(self, name: str, content: Any) -> Base:
        place = f"bases.{name}"
        known = ("zoo", "experiment", "trained", "lsuv", "shuffle_labels", "set")
        self.known(self.take(content, place, dict), place, known)
        zoo = self.optional(content, place, "zoo", str)
        experiment = self.optional(content, place, "experiment", str)
        if (zoo is None) == (experiment is None):
            given = "both" if zoo else "neither"
            self.refuse(place, f"{given} of zoo and experiment", "one of them")
        trained = self.take(content.get("trained", False), f"{place}.trained", bool)
        base = Base(
            self.name(name, place),
            zoo,
            self.folder / experiment if experiment else None,
            trained,
            self.take(content.get("lsuv", False), f"{place}.lsuv", bool),
            self.fraction(content.get("shuffle_labels", 0.0), f"{place}.shuffle_labels"),
            self._assignments(content.get("set", {}), f"{place}.set"),
        )
        if trained and (zoo or base.lsuv or base.shuffle_labels or base.assignments):
            self.refuse(
                f"{place}.trained", True, "only an experiment taken as it is, with nothing else set"
            )
        return base

    def _chain(self, name: str, content: Any, bases: Sequence[Base]) -> Chain:
        place, names = f"chains.{name}", [base.name for base in bases]
        shared = {**self.take(content, place, dict)}
        base = shared.pop("base", names[0] if len(names) == 1 else None)
        if base is None:
            self.refuse(place, "no base", f"one of {', '.join(names)}")
        controls = self.strings(shared.pop("controls", ["longer"]), f"{place}.controls")
        for control in controls:
            self.choice(control, f"{place}.controls", CONTROLS)
        given = shared.pop("generations", 1)
        if isinstance(given, int) and not isinstance(given, bool) and given > 0:
            given = [{}] * given
        if not isinstance(given, list) or not given:
            self.refuse(
                f"{place}.generations", given, "how many there are, or a list with a table for each"
            )
        generations = tuple(
            self._generation(
                {**shared, **self.take(own, f"{place}.generations", dict)},
                f"{place}.generations[{number}]" if own else place,
            )
            for number, own in enumerate(given)
        )
        if "scratch" in controls and any(each.method == "skip" for each in generations):
            self.refuse(
                f"{place}.controls",
                "scratch, beside a skip split",
                "other controls: a skip's weights are fixed, and no filler gives them",
            )
        return Chain(
            self.name(name, place),
            self.choice(base, f"{place}.base", names),
            generations,
            tuple(control for control in CONTROLS if control in controls),
        )

    def _generation(self, content: Mapping[str, Any], place: str) -> Generation:
        own = ("window", "top", "layers", "method", "partition", "start", "momentum", "set")
        added = tuple(each.name for each in fields(Setting))
        self.known(content, place, own + added)
        if ("top" in content) == ("layers" in content):
            given = "both" if "top" in content else "neither"
            self.refuse(place, f"{given} of top and layers", "one of them")
        if "window" not in content:
            self.refuse(place, "no window", "the iterations to score, as in [40000, 50000]")
        layers: tuple[str, ...] | int
        if "top" in content:
            layers = self.count(content["top"], f"{place}.top")
        else:
            layers = self.strings(content["layers"], f"{place}.layers")
            if not layers:
                self.refuse(f"{place}.layers", [], "one layer or more")
        start = content.get("start")
        return Generation(
            self.window(content["window"], f"{place}.window"),
            layers,
            self.choice(content.get("method", METHODS[0]), f"{place}.method", METHODS),
            self._partition(content.get("partition", "half"), f"{place}.partition"),
            None if start is None else self.count(start, f"{place}.start"),
            self.take(content.get("momentum", False), f"{place}.momentum", bool),
            self._setting({key: content[key] for key in added if key in content}, place),
            self._assignments(content.get("set", {}), f"{place}.set"),
        )

    def _partition(self, value: Any, place: str) -> str:
        """A partition that is well written; whether a layer has it, its kernels will tell."""
        if not PARTITION.fullmatch(self.take(value, place, str)):
            self.refuse(place, repr(value), f"one of {SPECIFICATIONS}")
        return str(value)

    def _setting(self, content: Mapping[str, Any], place: str) -> Setting:
        default = Setting()
        values: dict[str, Any] = {}
        for key, value in content.items():
            kind = type(getattr(default, key))
            if kind is tuple:
                pair = self.take(value, f"{place}.{key}", list)
                numbers = [float(self.take(each, f"{place}.{key}", (int, float))) for each in pair]
                if len(numbers) != len(default.edge):
                    self.refuse(f"{place}.{key}", value, "two numbers, as in [-0.2, 2]")
                values[key] = tuple(numbers)
            elif kind is float:
                values[key] = float(self.take(value, f"{place}.{key}", (int, float)))
            else:
                values[key] = self.take(value, f"{place}.{key}", kind)
        try:
            return Setting(**values)
        except SplitError as error:
            raise StudyError(
                f"{place}: {error.found}", error.expected, error.remedy, Location(self.path)
            ) from None

    def _assignments(self, content: Any, place: str) -> tuple[str, ...]:
        """`field=value` of each key, several values separated by commas."""
        given = self.take(content, place, dict)
        return tuple(f"{key}={self._solver_value(value, place)}" for key, value in given.items())

    def _solver_value(self, value: Any, place: str) -> str:
        if isinstance(value, list):
            return ",".join(self._solver_value(each, place) for each in value)
        if isinstance(value, bool):
            return str(value).lower()
        return str(self.take(value, place, (int, float, str)))

    def _tables(self, content: Mapping[str, Any], key: str, required: bool) -> dict[str, Any]:
        found: dict[str, Any] = self.take(content.get(key, {}), key, dict)
        if required and not found:
            self.refuse(key, "none", f"one or more, as in [{key}.baseline]")
        return found
