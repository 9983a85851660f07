"""What a stage of a study leaves in its folder beside the experiment: stage.json, its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from caffesplit.errors import Location, StudyError
from caffesplit.formats.output import replacing

STATE = "stage.json"


@dataclass(frozen=True)
class State:
    """How far a stage has come.

    Attributes:
        key: of the stage; a folder with another key is another stage's.
        made: whether the experiment is written.
        root: the folder that the experiment's paths start from, from its own.
        finished: whether it is trained to its end.
        resumed: the iterations from which a training that was broken off went on.
        seconds: of training, over all attempts that ended.
    """

    key: str
    made: bool = False
    root: str = "."
    finished: bool = False
    resumed: tuple[int, ...] = ()
    seconds: float = 0.0


def read_state(folder: Path) -> State | None:
    """The state of the stage in a folder; None where there is none.

    Raises:
        StudyError: if stage.json is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        state = State(**content)
        return replace(state, resumed=tuple(state.resumed))
    except (ValueError, TypeError, RecursionError):
        raise StudyError(
            "no state of a stage",
            "what `caffesplit run` wrote there",
            "Remove the folder; it will be made and trained anew.",
            Location(str(path)),
        ) from None


def write_state(folder: Path, state: State) -> None:
    with replacing(folder / STATE, force=True) as (staged,):
        staged.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
