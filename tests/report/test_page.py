"""The report page as text: what it tells, and that nothing a file says can act in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import report_tree

from caffesplit.errors import CaffesplitError
from caffesplit.report.page import page
from caffesplit.study.report import read

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its body."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self._inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text += data + " "

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    def data(self, text):
        (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
        return json.loads(block)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return report_tree.make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(tree):
    return page(read([tree]), "Written by a test.")


def plain(text):
    return " ".join(Elements(text).text.split())


def test_every_experiment_has_a_row_with_its_accuracy_and_its_differences(text):
    words = plain(text)
    assert "base 0.5000 0.5000 400 Baseline" in words
    assert "split1 best 0.8000 0.8000 400 +0.3000 +0.1000 +0.0500 base with conv1 split" in words
    assert "longer1 0.7000 0.7000 400 +0.2000 Control: base trained on" in words
    assert "random1 0.7500 0.7500 400 +0.2500 Control: base with conv1 split at random" in words


def test_a_split_plan_says_which_form_and_how_many_kernels(text):
    assert "conv1 residual half 3 3" in plain(text)
    assert "derived from base window 100 to 400" in plain(text)


def test_a_fold_says_what_became_one_layer_and_how_far_it_is_off(text):
    words = plain(text)
    assert "conv1 Convolution 2 layers: conv1_split1, conv1_split2 200 → 114 1.5e-08" in words
    assert "Largest deviation 1.5e-08" in words
    assert "conv2: nothing to join it with" in words


def test_the_tables_of_tpm_have_norms_and_undefined_kernels(text):
    row = re.search(r"conv1 6 108 (\S+) (\S+) 1 (\S+) (\S+)", plain(text))
    assert row is not None


def test_warnings_name_dead_kernels(text):
    assert "conv1: 1 never moved in 100 to 400; their TPM is undefined" in plain(text)


def test_what_is_missing_is_told_in_its_place(text):
    assert "No TPM:" in plain(text)
    assert "No TPM: a folded net is not trained." in plain(text)


def test_the_page_needs_nothing_but_itself(text):
    elements = Elements(text)
    assert not [attributes for attributes in elements.all("script") if "src" in attributes]
    assert [link["href"] for link in elements.all("link")] == ["data:,"]
    assert all(image["src"].startswith("data:") for image in elements.all("img"))
    targets = [link["href"] for link in elements.all("a")]
    assert targets
    assert all(target.startswith("#") for target in targets)


def test_a_browser_may_run_the_pages_own_scripts_and_no_other(text):
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (policy,) = (meta["content"] for meta in Elements(text).all("meta") if "http-equiv" in meta)
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    assert [base64.b64encode(digest).decode() for digest in digests] == allowed
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_the_scripts_hold_nothing_that_ends_them(text):
    assert text.count("</script>") == text.count("<script") == 3


def test_headings_are_in_order_and_identities_are_unique(text):
    elements = Elements(text)
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    identities = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert {link["href"][1:] for link in elements.all("a")} <= set(identities)


def test_pictures_have_words_and_table_heads_a_scope(text):
    elements = Elements(text)
    assert elements.all("img")
    assert all(image.get("alt") for image in elements.all("img"))
    assert all(head.get("scope") in ("col", "row") for head in elements.all("th"))
    images = [each for _, each in elements.found if each.get("role") == "img"]
    assert images
    assert all(each.get("aria-label") for each in images)


def test_names_from_files_are_text_and_never_markup(tmp_path):
    tree = report_tree.make(tmp_path)
    for name in ("base", "split1"):
        net = next(tree.joinpath(name).glob("*net*.prototxt" if name == "base" else "train*"))
        net.write_text(net.read_text().replace('"data"', f"'{HOSTILE}'"))
    log = tree / "base/train.log"
    log.write_text(log.read_text().replace("accuracy", HOSTILE.replace(" ", "_") + "acc"))
    record = json.loads((tree / "folded/fold.json").read_text())
    record["folded"][0]["name"] = record["left_alone"][0]["reason"] = HOSTILE
    (tree / "folded/fold.json").write_text(json.dumps(record))
    hostile = tree / HOSTILE.replace("/", "")
    shutil.copytree(tree / "longer1", hostile)
    text = page(read([tree]), HOSTILE)
    elements = Elements(text)
    assert all(image["src"].startswith("data:") for image in elements.all("img"))
    assert not [each for _, each in elements.found if any(key.startswith("on") for key in each)]
    assert text.count("</script>") == 3
    assert HOSTILE in elements.text
    assert hostile.name in elements.text


def test_curves_keep_their_peaks_however_long_the_log_is(tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    lines = [
        f"Iteration {number}, loss = {900 if number == 54_321 else 1 + number % 7}"
        for number in range(100_000)
    ]
    (folder / "train.log").write_text("\n".join([*lines, "Optimization Done.", ""]))
    text = page(read([folder]))
    (curve,) = Elements(text).data(text)["curves"]["loss"]
    assert len(curve["x"]) < 5_000
    assert curve["y"][curve["x"].index(54_321)] == 900


def test_an_experiment_that_cannot_be_read_is_listed_with_the_reason(tree, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "solver.prototxt").write_text("net: {")
    text = page(read([tree / "base", broken]))
    assert "Could not be read broken" in plain(text)
    assert "solver.prototxt:1" in plain(text)


def test_without_dot_the_drawing_is_left_out_with_a_word(tree, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "The net is not drawn: " in plain(page(read([tree / "base"])))


def test_a_missing_package_is_named_with_the_way_to_install_it(tree, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(CaffesplitError, match="pip install jinja2 plotly"):
        page(read([tree / "base"]))


def test_a_net_that_two_experiments_have_is_drawn_once(text):
    assert "The same net as base" in plain(text)
