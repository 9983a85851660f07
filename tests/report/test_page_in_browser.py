"""The report page in a real browser: it works from disk, alone, for mouse, keyboard and reader."""

from __future__ import annotations

import json
import time

import pytest
import report_tree
from browser import appearance, chromium

from caffesplit.report.page import page
from caffesplit.study.report import read

WAIT = 10.0
"""Seconds for what the browser does a moment later."""

COLOURS = """
const luminance = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
  }
  return "rgb(255, 255, 255)";
};
const found = {};
const texts = document.querySelectorAll(
  "h1, h2, h3, h4, p, a, td, th, dt, dd, label, legend, button, select, summary, caption, " +
  "figcaption, mark, i, .count, .badge");
for (const element of texts) {
  if (!element.textContent.trim() || element.closest(".drawing, .skip")) continue;
  const [one, other] = [getComputedStyle(element).color, behind(element)].map(luminance);
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  found[`${element.tagName}.${element.className}`] = ratio;
}
return found;
"""
"""The contrast of every kind of text to what is behind it, as WCAG 2 computes it."""


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    tree = report_tree.make(folder)
    solver = tree / "random1/solver.prototxt"
    solver.write_text(solver.read_text() + "gamma: 0.5\n")
    log = tree / "random1/train.log"
    log.write_text(report_tree.log_text(0.75, end=""))
    out = folder / "report.html"
    out.write_text(page(read([tree]), "Written by a test."))
    return out


@pytest.fixture
def opened(window, path):
    """The page, new, with its first charts drawn."""
    appearance(window, "light", 1300)
    window.get_log("browser")
    window.get_log("performance")
    window.get(path.as_uri())
    until(lambda: points(window, "output"))
    return window


def until(said):
    """What `said` says, once it says something."""
    end = time.monotonic() + WAIT
    while not (answer := said()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


def points(window, chart):
    """How many curves of a chart are shown."""
    return window.execute_script(
        f"return document.querySelectorAll('[data-chart={chart}] .scatterlayer .trace').length"
    )


def traces(window, chart):
    return window.execute_script(
        f"return document.querySelector('[data-chart={chart}]').data.map("
        "(trace) => [trace.meta[0], trace.visible])"
    )


def box(window, run):
    return window.find_element("css selector", f"input.run[value='{run}']")


def draw_all(window):
    window.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    charts = "return document.querySelectorAll('.chart:not(.js-plotly-plot)').length"
    assert until(lambda: window.execute_script(charts) == 0)


def test_the_page_opens_without_errors_and_without_the_network(opened, path):
    draw_all(opened)
    assert opened.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {
        message["params"]["request"]["url"].partition(":")[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert asked <= {"file", "data"}


def test_pointing_at_a_curve_shows_its_values(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    place = opened.execute_script(
        "const chart = document.querySelector('[data-chart=output]');"
        "chart.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const point = chart.querySelector('.points path:last-child').getBoundingClientRect();"
        "return [point.x + point.width / 2, point.y + point.height / 2]"
    )
    mouse = ActionChains(opened)
    mouse.w3c_actions.pointer_action.move_to_location(*map(round, place))
    mouse.perform()
    text = until(
        lambda: opened.execute_script(
            "return document.querySelector('[data-chart=output] .hoverlayer').textContent"
        )
    )
    assert text.startswith("baseiteration 400test accuracy 0.5")


def test_no_button_sends_a_chart_away(opened):
    draw_all(opened)
    titles = opened.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((each) => each.dataset.title)"
    )
    own = ["Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]
    assert titles == 2 * own


def test_a_run_that_is_unchecked_disappears_from_every_chart(opened):
    before = points(opened, "output")
    box(opened, 1).click()
    assert until(lambda: points(opened, "output") == before - 1)
    for chart in ("output", "loss"):
        shown = {name for name, visible in traces(opened, chart) if visible}
        assert shown == {"base", "longer1", "random1"} or shown == {"base", "split1", "random1"}


def test_all_and_none_check_all_and_none(opened):
    opened.find_element("id", "none").click()
    assert until(lambda: points(opened, "loss") == 0)
    opened.find_element("id", "all").click()
    assert until(lambda: points(opened, "output") == len(report_tree.ACCURACY))


def test_another_output_is_chosen_by_keyboard(opened):
    chosen = opened.find_element("id", "output")
    assert chosen.text.split("\n") == ["accuracy", "loss", "learning rate"]
    chosen.send_keys("learning")
    title = "return document.querySelector('[data-chart=output] .ytitle').textContent"
    assert until(lambda: opened.execute_script(title) == "learning rate")


def test_the_loss_may_be_logarithmic(opened):
    draw_all(opened)
    kind = "return document.querySelector('[data-chart=loss]').layout.yaxis.type"
    assert opened.execute_script(kind) == "linear"
    opened.find_element("id", "logarithmic").click()
    assert until(lambda: opened.execute_script(kind) == "log")


def test_the_keyboard_reaches_everything_and_is_seen_to(opened):
    from selenium.webdriver.common.keys import Keys

    opened.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(80):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(
            opened.execute_script(
                "const at = document.activeElement, look = getComputedStyle(at);"
                "return [at.tagName, at.id || at.className || at.getAttribute('href'),"
                "look.outlineStyle]"
            )
        )
        if reached[-1][1] == "none":
            break
    assert reached[0][:2] == ["A", "skip"]
    assert {"run", "all", "none", "scroll"} <= {name for _, name, _ in reached}
    assert all(outline not in ("none", "hidden") for _, _, outline in reached)


def test_a_run_is_toggled_by_the_space_bar(opened):
    box(opened, 0).send_keys(" ")
    assert until(lambda: points(opened, "output") == len(report_tree.ACCURACY) - 1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(opened, scheme):
    appearance(opened, scheme, 1300)
    contrasts = opened.execute_script(COLOURS)
    assert len(contrasts) > 15
    assert {kind: ratio for kind, ratio in contrasts.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_have_the_pages_own_colours(opened, scheme):
    appearance(opened, scheme, 1300)
    page_colour = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    chart = (
        "return getComputedStyle(document.querySelector('[data-chart=output] .main-svg'))"
        ".backgroundColor"
    )
    assert until(lambda: opened.execute_script(chart) == page_colour)


@pytest.mark.parametrize("width", [360, 800, 1300])
def test_no_window_is_too_narrow(opened, width):
    appearance(opened, "light", width)
    draw_all(opened)
    over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert until(lambda: opened.execute_script(over) == 0) is True


def test_the_contents_are_folded_in_a_narrow_window(opened):
    is_open = "return document.getElementById('contents').open"
    assert opened.execute_script(is_open)
    appearance(opened, "light", 360)
    assert until(lambda: not opened.execute_script(is_open))


def test_names_in_charts_are_text(window, tmp_path):
    name = "<b>bold & %{x} <img src=x onerror=alert(1)>"
    folder = tmp_path / name
    folder.mkdir()
    output = "%{x}<img_src=x_onerror=alert(1)>acc"
    (folder / "train.log").write_text(report_tree.log_text(0.5).replace("accuracy", output))
    out = tmp_path / "report.html"
    out.write_text(page(read([folder])))
    window.get_log("browser")
    window.get(out.as_uri())
    assert until(lambda: points(window, "output"))
    shown = window.execute_script(
        "const chart = document.querySelector('[data-chart=output]');"
        "Plotly.Fx.hover(chart, [{curveNumber: 0, pointNumber: 1}]);"
        "return chart.querySelector('.hoverlayer').textContent"
    )
    assert shown == f"{name}iteration 100test {output} 0.2"
    assert window.get_log("browser") == []
