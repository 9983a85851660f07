"""The report: one page that opens from disk, with all that some experiments came to."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from caffesplit.errors import CaffesplitError
from caffesplit.report import page_rows
from caffesplit.report.page_curves import curve_data
from caffesplit.report.page_pictures import with_pictures
from caffesplit.report.page_scores import score_data
from caffesplit.report.page_settings import settings
from caffesplit.report.page_summary import lineages, summary
from caffesplit.report.page_values import Report
from caffesplit.report.page_warnings import warnings

COLOURS = 7
DASHES = ("", "7 3", "2 3", "7 3 2 3", "12 3")
"""Of the keys beside the runs' names; page.js and page.css have the same ones for the curves."""


@dataclass(frozen=True)
class RunKey:
    """A run's name and the look of its curves."""

    index: int
    name: str

    @property
    def colour(self) -> int:
        return self.index % COLOURS

    @property
    def dashes(self) -> str:
        return DASHES[self.index // COLOURS % len(DASHES)]


def page(report: Report, colophon: str = "") -> str:
    """Return the report as one HTML page, with its scripts, styles and pictures inside.

    Names from files are escaped; besides, the page's own policy lets a browser run only its two
    scripts and load nothing from anywhere. Nets are drawn by Graphviz, where there is one.

    Raises:
        CaffesplitError: if a package of the `report` extra is missing.
    """
    library, environment = _packages()
    subjects = report.subjects
    lineage = lineages(subjects)
    found = summary(report)
    rows = page_rows.result_rows(found)
    readable = [subject for subject in subjects if subject.readable]
    ids = {subject.name: f"net-{number}" for number, subject in enumerate(readable, 1)}
    sections = with_pictures(
        [
            page_rows.section(subject, lineage[subject.name], ids[subject.name], number)
            for number, subject in enumerate(readable)
        ],
        readable,
    )
    logged = [subject for subject in subjects if subject.log]
    curves = curve_data(logged, next((row.result.metric for row in found), None))
    script, style = (
        environment.loader.get_source(environment, name)[0] for name in ("page.js", "page.css")
    )
    return environment.get_template("page.html").render(
        title=page_rows.title(subjects),
        about=page_rows.about(subjects),
        policy=_policy(library, script),
        summary=rows,
        columns=page_rows.columns(found, report.metric),
        controls_note=page_rows.CONTROLS_NOTE,
        noise=page_rows.noise(found),
        unreadable=[subject for subject in subjects if not subject.readable],
        warnings=[each for each in warnings(subjects) if each.subject.readable],
        curves=curves,
        output_label=page_rows.output_label(found),
        runs=[RunKey(index, subject.name) for index, subject in enumerate(logged)],
        settings=settings(subjects),
        sections=sections,
        ids=ids,
        colophon=colophon,
        data={"curves": curves, "scores": [score_data(subject) for subject in readable]},
        library=_safe(library),
        script=_safe(script),
        style=_safe(style),
    )


def _packages() -> tuple[str, Any]:
    """Plotly's script and the environment of the templates."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ImportError as error:
        raise CaffesplitError(
            f"the Python package {error.name} is not installed",
            "the packages of the report",
            "Install them: pip install jinja2 plotly",
        ) from error
    environment = Environment(
        loader=PackageLoader("caffesplit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return str(get_plotlyjs()), environment


def _safe(text: str) -> Any:
    """A text of our own or Plotly's, which goes into the page as it is."""
    from markupsafe import Markup

    return Markup(text)


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy: these scripts run, no other; nothing is loaded or sent."""
    digests = (
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
