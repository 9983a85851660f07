"""The SVG of a drawing: tooltips that browsers show, and colours for dark pages."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from caffesplit.report.draw_graphviz import BACKSLASH, render
from caffesplit.report.draw_style import FADED, TEXT

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

STYLE = f"""
.caffesplit-net {{ max-width: 100%; height: auto; }}
@media (prefers-color-scheme: dark) {{
  .caffesplit-net polygon[fill="white"] {{ fill: #16191d; }}
  .caffesplit-net :is(.graph, .cluster, .edge) > text:is([fill="{TEXT}"], [fill="{FADED}"])
    {{ fill: #d8dee6; }}
  .caffesplit-net .edge path {{ stroke: #98a2ae; }}
  .caffesplit-net .edge polygon {{ stroke: #98a2ae; fill: #98a2ae; }}
}}
"""
"""A dark card on a dark page. Boxes keep their light fills and dark texts, which are legible on
both; the rules speak of this drawing alone, wherever it is embedded."""


def svg(source: str) -> str:
    """Have `dot` draw a Graphviz source as SVG, without XML declaration: to save or to embed.

    Texts are texts. The tooltips of boxes and edges are their `<title>`.

    Raises:
        OutputError: if there is no `dot` (with the way to install it), or it fails.
    """
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    root = ET.fromstring(render(source, "svg").decode().replace(BACKSLASH, "\\"))
    for group in list(root.iter(f"{{{SVG}}}g")):
        _unwrap_links(group)
    name = root.findtext(f"{{{SVG}}}g/{{{SVG}}}title", "")
    root.set("class", "caffesplit-net")
    root.set("role", "img")
    root.set("aria-label", name)
    style = ET.Element(f"{{{SVG}}}style")
    style.text = STYLE
    root.insert(0, style)
    return ET.tostring(root, encoding="unicode") + "\n"


def _unwrap_links(group: ET.Element) -> None:
    """Put the content of `<g><a title="…">…</a></g>` in place, its title into `<title>`."""
    for child in list(group):
        link = child.find(f"{{{SVG}}}a")
        if link is None:
            continue
        title = group.find(f"{{{SVG}}}title")
        if title is not None:
            title.text = link.get(f"{{{XLINK}}}title", "")
        place = list(group).index(child)
        group.remove(child)
        for offset, element in enumerate(link):
            group.insert(place + offset, element)
