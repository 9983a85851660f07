"""SVG drawings: names of any kind, tooltips, dark pages; and machines without Graphviz."""

import re
import xml.etree.ElementTree as ET

import pytest
from graphviz_json import need_dot
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from caffesplit.errors import OutputError
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.report import draw_graphviz
from caffesplit.report.draw import dot, svg
from caffesplit.report.draw_file import save

SVG = "{http://www.w3.org/2000/svg}"
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
AWKWARD = [
    'a"b',
    "a\\",
    "\\N",
    "a\\nb",
    "{a|b}",
    "<b>",
    "&amp;",
    "a b:c",
    "卷积",
    "-->",
    "]]>",
    "$x$",
]


def net(name):
    text = prototxt.quote(name)
    return graph.build(
        prototxt.parse(
            f'name: {text} layer {{ name: {text} type: "Input" top: {text} }}'
            f'layer {{ name: "conv" type: "Convolution" bottom: {text} top: "conv" '
            "convolution_param { num_output: 2 kernel_size: 3 } }"
            f'layer {{ name: {text} type: "ReLU" bottom: "conv" top: "conv" }}'
        )
    )


def drawn(name):
    need_dot()
    return ET.fromstring(svg(dot(net(name))))


def shown(name):
    """As XML can hold it; white space is XML's own business."""
    kept = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return "".join(re.sub(kept, "\ufffd", name).split())


def titles(root, kind):
    groups = [each for each in root.iter(f"{SVG}g") if each.get("class") == kind]
    return ["".join(group.findtext(f"{SVG}title").split()) for group in groups]


def check(name):
    root = drawn(name)
    text = "".join("".join(each.itertext()) for each in root.iter(f"{SVG}text"))
    assert titles(root, "node")[0].startswith(shown(name) + "(Input)")
    assert titles(root, "edge") == [shown(name)]
    assert "".join(text.split()).count(shown(name)) >= 3  # The title, and two boxes.


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_stand_in_boxes_and_tooltips_as_they_are(name):
    check(name)


@settings(max_examples=30, deadline=None)
@given(NAMES)
def test_any_name_stands_in_boxes_and_tooltips(name):
    assume(shown(name))
    check(name)


def test_boxes_have_tooltips_that_tell_all_and_texts_are_texts():
    root = drawn("data")
    group = next(each for each in root.iter(f"{SVG}g") if each.get("id") == "node2")
    assert group.findtext(f"{SVG}title") == (
        "conv (Convolution)\nconvolution_param.num_output: 2\nconvolution_param.kernel_size: 3"
        "\n\ndata (ReLU)"
    )
    assert "Convolution 3×3, num_output 2" in [each.text for each in group.iter(f"{SVG}text")]
    assert not list(root.iter(f"{SVG}a"))
    assert not list(root.iter(f"{SVG}image"))


def test_the_drawing_names_itself_and_turns_dark_on_dark_pages():
    root = drawn("A net")
    assert (root.get("role"), root.get("aria-label")) == ("img", "A net")
    style = root.findtext(f"{SVG}style")
    assert "prefers-color-scheme: dark" in style
    rules = [line for line in style.splitlines() if "{" in line and "@media" not in line]
    assert all(line.strip().startswith((".caffesplit-net", "{")) for line in rules)


def contrast(one, other):
    """WCAG 2's contrast of two colours."""

    def luminance(colour):
        parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_can_be_read_on_its_fill():
    from caffesplit.report.draw_style import FADED, LOOKS, ON_FILL, TEXT

    for look in LOOKS.values():
        for colour in (TEXT, FADED, ON_FILL):
            assert contrast(colour, look.fill) >= 4.5
    for name in ("fast", "slow", "added", "joined", "changed", "loss"):
        assert contrast(LOOKS[name].border, LOOKS[name].fill) >= 4.0


WITHOUT_DOT = (
    "there is no `dot`, the program that lays out nets, expected Graphviz\n"
    "Install Graphviz: `apt install graphviz` (Debian, Ubuntu), `brew install graphviz` (macOS), "
    "`conda install graphviz`. Or write FILE.dot, which needs no `dot`, and draw it elsewhere."
)


def test_without_graphviz_the_message_tells_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutputError) as caught:
        svg(dot(net("data")))
    assert str(caught.value) == WITHOUT_DOT


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_without_graphviz_nothing_is_written(monkeypatch, tmp_path, ending):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutputError):
        save(dot(net("data")), tmp_path / f"new/net.{ending}")
    assert not list(tmp_path.iterdir())


def test_without_graphviz_the_source_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    save(dot(net("data")), tmp_path / "net.dot")
    assert (tmp_path / "net.dot").read_text() == dot(net("data"))


@pytest.mark.parametrize(
    ("ending", "start"),
    [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("dot", b"digra")],
)
def test_the_ending_chooses_the_format(tmp_path, ending, start):
    need_dot()
    save(dot(net("data")), tmp_path / f"net.{ending}")
    assert (tmp_path / f"net.{ending}").read_bytes().startswith(start)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(OutputError) as caught:
        save("digraph {}", tmp_path / "net.gif")
    assert str(caught.value) == (
        f'{tmp_path}/net.gif: the ending ".gif" names no format of a drawing, '
        "expected .svg, .png, .pdf or .dot\nGive the drawing another ending."
    )


def test_what_dot_says_of_a_bad_source_is_told():
    need_dot()
    with pytest.raises(OutputError) as caught:
        svg("digraph {")
    assert "`dot` failed: Error: <stdin>: syntax error" in str(caught.value)


def test_a_net_without_a_layout_in_time_is_told(monkeypatch):
    need_dot()
    monkeypatch.setattr(draw_graphviz, "MAX_SECONDS", 0)
    with pytest.raises(OutputError) as caught:
        svg("digraph { a -> b }")
    assert str(caught.value) == (
        "`dot` found no layout in 0 seconds, expected a net of some hundreds of layers\n"
        "Write FILE.dot, and draw it with another of Graphviz's programs, as `sfdp`."
    )
