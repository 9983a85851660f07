"""What Graphviz makes of a source: its nodes, edges and clusters, by its own JSON."""

import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest

from caffesplit.report.draw_graphviz import render


def need_dot():
    """Skip without Graphviz; where CI is true, that is a failure."""
    if shutil.which("dot") is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("no dot: apt install graphviz")
        pytest.skip("no dot: apt install graphviz")


class Drawing:
    """`boxes`: the texts of each box by its first layer's name, `edges`: (from, to, label)."""

    def __init__(self, source):
        need_dot()
        self.graph = json.loads(render(source, "json"))
        objects = {each["_gvid"]: each for each in self.graph.get("objects", ())}
        self.nodes = {key: each for key, each in objects.items() if "nodes" not in each}
        self.clusters = {
            each["label"]: {self.name(inner) for inner in each["nodes"]}
            for each in objects.values()
            if each["name"].startswith("cluster")
        }
        self.title = words(self.graph["label"])
        self.edges = {
            (self.name(each["tail"]), self.name(each["head"]), each.get("label", "").strip())
            for each in self.graph.get("edges", ())
        }

    def name(self, key):
        """A layer by its tooltip, which starts with its name."""
        return re.match(r"(.*?) \(\w*\)", self.nodes[key]["tooltip"]).group(1)

    @property
    def boxes(self):
        return {self.name(key): words(each["label"]) for key, each in self.nodes.items()}

    def look(self, name):
        return next(each for key, each in self.nodes.items() if self.name(key) == name)


class _Words(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_data(self, data):
        self.found.append(data.strip())


def words(markup):
    """The texts in a label of markup."""
    parser = _Words()
    parser.feed(markup)
    return [word for word in parser.found if word]
