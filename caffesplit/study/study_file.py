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

What each key means stands in `study.study`; a generation also has those of `split.forms.Setting`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from caffesplit.errors import Location, SplitError, StudyError
from caffesplit.split.forms import Setting
from caffesplit.split.plan import METHODS
from caffesplit.study.study import CONTROLS, RESUME, Base, Chain, Generation, Study

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    except tomllib.TOMLDecodeError as error:
        raise StudyError(
            f"no TOML ({error})", "a study file", "See `caffesplit run --help`.", Location(path)
        ) from None
    return _Reader(path, folder or Path()).study(content)


@dataclass(frozen=True)
class _Reader:
    """Takes values out of decoded TOML, naming the place of what is wrong."""

    path: str
    folder: Path

    def study(self, content: Mapping[str, Any]) -> Study:
        known = ("title", "bases", "chains", "seeds", "metric", "test_net", "resume", "measure")
        self._known(content, "", known)
        bases = tuple(
            self._base(name, value)
            for name, value in self._tables(content, "bases", required=True).items()
        )
        chains = self._tables(content, "chains", required=False)
        seeds = self._integers(content.get("seeds", [1]), "seeds")
        if not seeds or len(set(seeds)) < len(seeds):
            self._refuse("seeds", seeds, "one or more, each once")
        measure = content.get("measure", {})
        self._known(self._take(measure, "measure", dict), "measure", ("windows", "layers"))
        return Study(
            self._take(content.get("title", ""), "title", str),
            bases,
            tuple(self._chain(name, value, bases) for name, value in chains.items()),
            seeds,
            self._optional(content, "", "metric", str),
            self._take(content.get("test_net", 0), "test_net", int),
            self._choice(content.get("resume", RESUME[0]), "resume", RESUME),
            tuple(
                self._window(each, "measure.windows")
                for each in self._take(measure.get("windows", []), "measure.windows", list)
            ),
            self._strings(measure.get("layers", []), "measure.layers"),
        )

    def _base(self, name: str, content: Any) -> Base:
        place = f"bases.{name}"
        known = ("zoo", "experiment", "trained", "lsuv", "shuffle_labels", "set")
        self._known(self._take(content, place, dict), place, known)
        zoo = self._optional(content, place, "zoo", str)
        experiment = self._optional(content, place, "experiment", str)
        if (zoo is None) == (experiment is None):
            given = "both" if zoo else "neither"
            self._refuse(place, f"{given} of zoo and experiment", "one of them")
        trained = self._take(content.get("trained", False), f"{place}.trained", bool)
        base = Base(
            self._name(name, place),
            zoo,
            self.folder / experiment if experiment else None,
            trained,
            self._take(content.get("lsuv", False), f"{place}.lsuv", bool),
            self._fraction(content.get("shuffle_labels", 0.0), f"{place}.shuffle_labels"),
            self._assignments(content.get("set", {}), f"{place}.set"),
        )
        if trained and (zoo or base.lsuv or base.shuffle_labels or base.assignments):
            self._refuse(
                f"{place}.trained", True, "only an experiment taken as it is, with nothing else set"
            )
        return base

    def _chain(self, name: str, content: Any, bases: Sequence[Base]) -> Chain:
        place, names = f"chains.{name}", [base.name for base in bases]
        shared = {**self._take(content, place, dict)}
        base = shared.pop("base", names[0] if len(names) == 1 else None)
        if base is None:
            self._refuse(place, "no base", f"one of {', '.join(names)}")
        controls = self._strings(shared.pop("controls", ["longer"]), f"{place}.controls")
        for control in controls:
            self._choice(control, f"{place}.controls", CONTROLS)
        given = shared.pop("generations", 1)
        if isinstance(given, int) and not isinstance(given, bool) and given > 0:
            given = [{}] * given
        if not isinstance(given, list) or not given:
            self._refuse(
                f"{place}.generations", given, "how many there are, or a list with a table for each"
            )
        return Chain(
            self._name(name, place),
            self._choice(base, f"{place}.base", names),
            tuple(
                self._generation(
                    {**shared, **self._take(own, f"{place}.generations", dict)},
                    f"{place}.generations[{number}]" if own else place,
                )
                for number, own in enumerate(given)
            ),
            tuple(control for control in CONTROLS if control in controls),
        )

    def _generation(self, content: Mapping[str, Any], place: str) -> Generation:
        own = ("window", "top", "layers", "method", "partition", "start", "momentum", "set")
        added = tuple(each.name for each in fields(Setting))
        self._known(content, place, own + added)
        if ("top" in content) == ("layers" in content):
            given = "both" if "top" in content else "neither"
            self._refuse(place, f"{given} of top and layers", "one of them")
        if "window" not in content:
            self._refuse(place, "no window", "the iterations to score, as in [40000, 50000]")
        layers: tuple[str, ...] | int
        if "top" in content:
            layers = self._count(content["top"], f"{place}.top")
        else:
            layers = self._strings(content["layers"], f"{place}.layers")
            if not layers:
                self._refuse(f"{place}.layers", [], "one layer or more")
        start = self._optional(content, place, "start", int)
        return Generation(
            self._window(content["window"], f"{place}.window"),
            layers,
            self._choice(content.get("method", METHODS[0]), f"{place}.method", METHODS),
            self._take(content.get("partition", "half"), f"{place}.partition", str),
            start,
            self._take(content.get("momentum", False), f"{place}.momentum", bool),
            self._setting({key: content[key] for key in added if key in content}, place),
            self._assignments(content.get("set", {}), f"{place}.set"),
        )

    def _setting(self, content: Mapping[str, Any], place: str) -> Setting:
        default = Setting()
        values: dict[str, Any] = {}
        for key, value in content.items():
            kind = type(getattr(default, key))
            if kind is tuple:
                pair = self._take(value, f"{place}.{key}", list)
                numbers = [float(self._take(each, f"{place}.{key}", (int, float))) for each in pair]
                if len(numbers) != len(default.edge):
                    self._refuse(f"{place}.{key}", value, "two numbers, as in [-0.2, 2]")
                values[key] = tuple(numbers)
            elif kind is float:
                values[key] = float(self._take(value, f"{place}.{key}", (int, float)))
            else:
                values[key] = self._take(value, f"{place}.{key}", kind)
        try:
            return Setting(**values)
        except SplitError as error:
            raise StudyError(
                f"{place}: {error.found}", error.expected, error.remedy, Location(self.path)
            ) from None

    def _assignments(self, content: Any, place: str) -> tuple[str, ...]:
        """`field=value` of each key, several values separated by commas."""
        given = self._take(content, place, dict)
        return tuple(f"{key}={self._solver_value(value, place)}" for key, value in given.items())

    def _solver_value(self, value: Any, place: str) -> str:
        if isinstance(value, list):
            return ",".join(self._solver_value(each, place) for each in value)
        if isinstance(value, bool):
            return str(value).lower()
        return str(self._take(value, place, (int, float, str)))

    def _tables(self, content: Mapping[str, Any], key: str, required: bool) -> dict[str, Any]:
        found: dict[str, Any] = self._take(content.get(key, {}), key, dict)
        if required and not found:
            self._refuse(key, "none", f"one or more, as in [{key}.baseline]")
        return found

    def _known(self, content: Mapping[str, Any], place: str, known: Sequence[str]) -> None:
        import difflib

        for key in content:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                raise StudyError(
                    f"a key {key!r} in {place or 'the study'}",
                    f"one of {', '.join(known)}",
                    f"Did you mean {close[0]!r}?" if close else "",
                    Location(self.path),
                )

    def _name(self, name: str, place: str) -> str:
        """The name, which folders get."""
        if not name.replace("_", "").replace("-", "").isalnum():
            self._refuse(place, f"the name {name!r}", "letters, digits, - and _: folders get it")
        return name

    def _window(self, value: Any, place: str) -> tuple[int, int]:
        pair = self._integers(value, place)
        if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
            self._refuse(place, value, "two iterations, the smaller first, as in [40000, 50000]")
        return pair[0], pair[1]

    def _integers(self, value: Any, place: str) -> tuple[int, ...]:
        return tuple(self._take(each, place, int) for each in self._take(value, place, list))

    def _strings(self, value: Any, place: str) -> tuple[str, ...]:
        return tuple(self._take(each, place, str) for each in self._take(value, place, list))

    def _count(self, value: Any, place: str) -> int:
        if self._take(value, place, int) < 1:
            self._refuse(place, value, "1 or more")
        return int(value)

    def _fraction(self, value: Any, place: str) -> float:
        number = float(self._take(value, place, (int, float)))
        if not 0 <= number <= 1:
            self._refuse(place, value, "a fraction from 0 to 1")
        return number

    def _choice(self, value: Any, place: str, known: Sequence[str]) -> str:
        if value not in known:
            self._refuse(place, repr(value), f"one of {', '.join(known)}")
        return str(value)

    def _optional(self, content: Mapping[str, Any], place: str, key: str, kind: type) -> Any:
        if key not in content:
            return None
        return self._take(content[key], f"{place}.{key}".lstrip("."), kind)

    def _take(self, value: Any, place: str, kind: type | tuple[type, ...]) -> Any:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self._refuse(place, repr(value)[:60], " or ".join(_TOML_NAMES[each] for each in kinds))
        return value

    def _refuse(self, place: str, found: Any, expected: str) -> NoReturn:
        raise StudyError(
            f"{place} is {found}", expected, "Correct the study file.", Location(self.path)
        )


_TOML_NAMES: dict[type, str] = {
    dict: "a table",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
