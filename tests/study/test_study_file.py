"""Study files: every key, every refusal, and those that come with the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from caffesplit.errors import StudyError
from caffesplit.split.forms import Setting
from caffesplit.study.study import Base, Chain, Generation, Study
from caffesplit.study.study_file import packaged, parse

NOTEBOOKS = (
    "residual-vs-random",
    "residual-chain",
    "multi-split",
    "entropy-splits",
    "label-shuffle",
)


def test_the_shortest_study_is_a_base_trained_with_seed_1():
    assert parse('[bases.net]\nzoo = "digits"') == Study("", (Base("net", "digits"),))


def test_every_key_has_its_place():
    text = """
        title = "Why?"
        seeds = [3, 5]
        metric = "loss"
        test_net = 1
        resume = "start"
        [bases.a]
        zoo = "digits"
        lsuv = true
        shuffle_labels = 0.5
        set = { base_lr = 0.01, max_iter = 100, stepvalue = [50, 80], debug_info = true }
        [bases.b]
        experiment = "exp/b"
        trained = true
        [chains.c]
        base = "b"
        window = [10, 20]
        layers = ["conv1", "conv2"]
        method = "extension"
        partition = "inverse:count:3"
        start = 15
        momentum = true
        noise = 0
        edge = [-1, 3]
        new_lr_mult = 10
        new_decay_mult = 0.5
        skip_stride = "average"
        activation = "relu"
        set = { max_iter = 200 }
        controls = ["scratch", "longer", "random", "inverse"]
        [chains.d]
        base = "a"
        window = [10, 20]
        top = 2
        preserve = true
        [measure]
        windows = [[1, 2], [3, 4]]
        layers = ["conv1"]
    """
    setting = Setting(0.0, (-1.0, 3.0), 10.0, 0.5, "average", "relu")
    first = Generation(
        *((10, 20), ("conv1", "conv2"), "extension", "inverse:count:3", 15, True),
        *(setting, ("max_iter=200",)),
    )
    assignments = ("base_lr=0.01", "max_iter=100", "stepvalue=50,80", "debug_info=true")
    assert parse(text, folder=Path("here")) == Study(
        "Why?",
        (
            Base("a", "digits", None, False, True, 0.5, assignments),
            Base("b", None, Path("here/exp/b"), True),
        ),
        (
            Chain("c", "b", (first,), ("longer", "random", "inverse", "scratch")),
            Chain(
                *("d", "a", (Generation((10, 20), 2, setting=Setting(preserve=True)),)),
                ("longer",),
            ),
        ),
        (3, 5),
        "loss",
        1,
        "start",
        ((1, 2), (3, 4)),
        ("conv1",),
    )


def chain(text: str) -> Chain:
    return parse(f'bases.net.zoo = "digits"\n[chains.c]\nwindow = [1, 9]\n{text}').chains[0]


def test_so_many_generations_are_alike():
    assert chain("top = 1\ngenerations = 3").generations == (Generation((1, 9), 1),) * 3


def test_a_generation_has_its_own_keys_over_the_chains():
    found = chain('method = "skip"\ngenerations = [{ top = 1 }, { layers = ["a"], start = 4 }]')
    assert found.generations == (
        Generation((1, 9), 1, "skip"),
        Generation((1, 9), ("a",), "skip", start=4),
    )


BASE = 'bases.net.zoo = "digits"\n'
CHAIN = BASE + "[chains.c]\nwindow = [1, 9]\n"
TOP = CHAIN + "top = 1\n"
CORRECT = "Correct the study file."

REFUSED = {
    "": f"s.toml: bases is none, expected one or more, as in [bases.baseline]\n{CORRECT}",
    "title = ": "s.toml: no TOML (Invalid value (at end of document)), expected a study file\n"
    "`caffesplit run digits-residual-chain --show` prints one.",
    BASE + 'titel = "x"': "s.toml: a key 'titel' in the study, expected one of title, bases, "
    "chains, seeds, metric, test_net, resume, measure\nDid you mean 'title'?",
    BASE + "quite_other = 1": "s.toml: a key 'quite_other' in the study, expected one of title, "
    "bases, chains, seeds, metric, test_net, resume, measure",
    BASE + "title = 5": f"s.toml: title is 5, expected a string\n{CORRECT}",
    BASE + "seeds = 5": f"s.toml: seeds is 5, expected a list\n{CORRECT}",
    BASE + "seeds = []": "s.toml: seeds is (), expected one or more from 0 to 2147483647, each "
    f"once\n{CORRECT}",
    BASE + "seeds = [1, 1]": "s.toml: seeds is (1, 1), expected one or more from 0 to 2147483647, "
    f"each once\n{CORRECT}",
    BASE + "seeds = [-1]": "s.toml: seeds is (-1,), expected one or more from 0 to 2147483647, "
    f"each once\n{CORRECT}",
    BASE + "seeds = [true]": f"s.toml: seeds is True, expected a whole number\n{CORRECT}",
    BASE + "test_net = -1": f"s.toml: test_net is -1, expected 0 or more\n{CORRECT}",
    BASE + 'resume = "no"': "s.toml: resume is 'no', expected one of snapshot, start\n" + CORRECT,
    BASE + "measure = 1": f"s.toml: measure is 1, expected a table\n{CORRECT}",
    BASE + "measure.windows = [[2, 1]]": "s.toml: measure.windows is [2, 1], expected two "
    f"iterations, the smaller first, as in [40000, 50000]\n{CORRECT}",
    BASE + 'measure.layers = "a"': f"s.toml: measure.layers is 'a', expected a list\n{CORRECT}",
    "bases = 1": f"s.toml: bases is 1, expected a table\n{CORRECT}",
    "bases.net = 1": f"s.toml: bases.net is 1, expected a table\n{CORRECT}",
    "bases.net.lsuv = true": "s.toml: bases.net is neither of zoo and experiment, expected one of "
    f"them\n{CORRECT}",
    BASE + 'bases.net.experiment = "e"': "s.toml: bases.net is both of zoo and experiment, "
    f"expected one of them\n{CORRECT}",
    BASE + "bases.net.trained = true": "s.toml: bases.net.trained is True, expected only an "
    f"experiment taken as it is, with nothing else set\n{CORRECT}",
    BASE + "bases.net.shuffle_labels = 1.5": "s.toml: bases.net.shuffle_labels is 1.5, expected a "
    f"fraction from 0 to 1\n{CORRECT}",
    BASE + "bases.net.shuffle_labels = nan": "s.toml: bases.net.shuffle_labels is nan, expected a "
    f"fraction from 0 to 1\n{CORRECT}",
    BASE + "bases.net.set.base_lr = [[{}]]": "s.toml: bases.net.set is {}, expected a whole number "
    f"or a number or a string\n{CORRECT}",
    'bases."../x".zoo = "digits"': "s.toml: bases.../x is the name '../x', expected letters, "
    f"digits, - and _: folders get it\n{CORRECT}",
    TOP + "base = 'other'": f"s.toml: chains.c.base is 'other', expected one of net\n{CORRECT}",
    'bases.b.zoo = "digits"\n' + TOP: "s.toml: chains.c is no base, expected one of b, net\n"
    + CORRECT,
    TOP + 'controls = ["none"]': "s.toml: chains.c.controls is 'none', expected one of longer, "
    f"random, inverse, scratch\n{CORRECT}",
    TOP + "generations = 0": "s.toml: chains.c.generations is 0, expected how many there are, or a "
    f"list with a table for each\n{CORRECT}",
    TOP + "generations = true": "s.toml: chains.c.generations is True, expected how many there "
    f"are, or a list with a table for each\n{CORRECT}",
    TOP + "generations = [1]": f"s.toml: chains.c.generations is 1, expected a table\n{CORRECT}",
    TOP + 'method = "skip"\ncontrols = ["scratch"]': "s.toml: chains.c.controls is scratch, beside "
    "a skip split, expected other controls: a skip's weights are fixed, and no filler gives them\n"
    + CORRECT,
    TOP + 'layers = ["a"]': "s.toml: chains.c is both of top and layers, expected one of them\n"
    + CORRECT,
    CHAIN: f"s.toml: chains.c is neither of top and layers, expected one of them\n{CORRECT}",
    CHAIN + "layers = []": f"s.toml: chains.c.layers is [], expected one layer or more\n{CORRECT}",
    CHAIN + "top = 0": f"s.toml: chains.c.top is 0, expected 1 or more\n{CORRECT}",
    BASE + "chains.c.top = 1": "s.toml: chains.c is no window, expected the iterations to score, "
    f"as in [40000, 50000]\n{CORRECT}",
    BASE + "chains.c = { top = 1, window = [3] }": "s.toml: chains.c.window is [3], expected two "
    f"iterations, the smaller first, as in [40000, 50000]\n{CORRECT}",
    TOP + 'method = "split"': "s.toml: chains.c.method is 'split', expected one of residual, "
    f"extension, skip\n{CORRECT}",
    TOP + 'partition = "halves"': "s.toml: chains.c.partition is 'halves', expected one of half, "
    f"mean, threshold:T, count:K, random, random:K, inverse:P\n{CORRECT}",
    TOP + "start = 0": f"s.toml: chains.c.start is 0, expected 1 or more\n{CORRECT}",
    TOP + "momentum = 1": f"s.toml: chains.c.momentum is 1, expected true or false\n{CORRECT}",
    TOP + "noise = -1": "s.toml: chains.c: noise -1.0, expected a number from 0 to 1e+06",
    TOP + "edge = [1]": "s.toml: chains.c.edge is [1], expected two numbers, as in "
    f"[-0.2, 2]\n{CORRECT}",
    TOP + "generations = [{ thresh = 1 }]": "s.toml: a key 'thresh' in chains.c.generations[0], "
    "expected one of window, top, layers, method, partition, start, momentum, set, noise, edge, "
    "new_lr_mult, new_decay_mult, skip_stride, activation, preserve",
    BASE + "seeds = [99999999999999999999]": "s.toml: seeds is 99999999999999999999, expected a "
    f"number up to 9223372036854775807\n{CORRECT}",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_meant_is_refused_with_its_place(text):
    with pytest.raises(StudyError) as caught:
        parse(text, "s.toml")
    assert str(caught.value) == REFUSED[text]


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(StudyError, match="no TOML"):
        parse(f"{BASE}test_net = {'9' * 5000}")


def test_a_long_wrong_value_is_shown_in_part():
    with pytest.raises(StudyError) as caught:
        parse(f"{BASE}seeds = {list(range(9999)) * 2}")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_notebook_has_its_study_at_full_size_and_on_digits(name):
    full, small = (parse(packaged()[key]) for key in (name, f"digits-{name}"))
    assert full.title.endswith("?")
    assert "handwritten digits" in small.title
    assert {base.zoo for base in small.bases} == {"digits"}
    assert not {base.zoo for base in full.bases} & {"digits"}
    assert [base.name for base in full.bases] == [base.name for base in small.bases]


def test_no_other_study_is_packaged():
    assert set(packaged()) == {*NOTEBOOKS, *(f"digits-{name}" for name in NOTEBOOKS)}


def keys() -> list[str]:
    top = ["bases", "chains", "measure"]
    given = {"name", "assignments", "generations", "setting", "windows"}
    for kind in (Study, Base, Chain, Generation, Setting):
        top += [each.name for each in dataclasses.fields(kind) if each.name not in given]
    return [*dict.fromkeys(top), "generations", "top", "set", "windows"]


@pytest.mark.parametrize("key", keys())
def test_the_reference_tells_every_key(key):
    reference = Path(__file__).parents[2] / "docs/studies.md"
    assert f"\n| `{key}` |" in reference.read_text()


def test_the_reference_tells_no_key_that_there_is_not():
    text = (Path(__file__).parents[2] / "docs/studies.md").read_text()
    told = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert told == set(keys())


def test_the_references_example_is_a_study():
    text = (Path(__file__).parents[2] / "docs/studies.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert parse(example).chains
