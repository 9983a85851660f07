"""The stages of a study: names, order, and keys that change with what a result depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import StudyError
from caffesplit.split.forms import Setting
from caffesplit.study.stages import course
from caffesplit.study.study import CONTROLS, Base, Chain, Generation, Study

WINDOW = (10, 20)
NET = Base("net", "digits")


def study(*chains: Chain, bases: tuple[Base, ...] = (NET,)) -> Study:
    return Study("", bases, chains)


def chain(name: str = "split", generations: int = 2, controls=CONTROLS, base: str = "net") -> Chain:
    return Chain(name, base, (Generation(WINDOW, 1),) * generations, tuple(controls))


def stages(study: Study, seed: int = 1, **contents: str) -> dict:
    found = course(study, seed, {base.name: contents.get(base.name, "") for base in study.bases})
    return {stage.name: stage for stage in found.stages}


def keys(study: Study, seed: int = 1, **contents: str) -> dict[str, str]:
    return {name: stage.key for name, stage in stages(study, seed, **contents).items()}


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


def test_a_chain_has_its_splits_and_a_control_of_each_kind_for_every_generation():
    assert {name: stage.parents for name, stage in stages(study(chain())).items()} == {
        "net": (),
        "split1": ("net",),
        "split2": ("split1",),
        "longer1": ("net",),
        "longer2": ("longer1",),
        "random1": ("net", "split1"),
        "random2": ("random1", "split2"),
        "inverse1": ("net", "split1"),
        "inverse2": ("inverse1", "split2"),
        "scratch": ("net", "split2"),
        "scratch1": ("scratch",),
        "scratch2": ("scratch1",),
    }


def test_a_split_is_compared_with_the_controls_of_its_generation():
    found = course(study(chain()), 1, {"net": ""}).comparisons
    assert {each.split: each.controls for each in found} == {
        "split1": ("longer1", "random1", "inverse1"),
        "split2": ("longer2", "random2", "inverse2", "scratch2"),
    }


def test_what_two_chains_share_is_trained_once():
    other = replace(chain("b", 2, ["longer"]), generations=(Generation(WINDOW, 2),) * 2)
    two = study(chain("a", 2, ["longer"]), other)
    assert list(stages(two)) == ["net", "a1", "a2", "longer1", "longer2", "b1", "b2"]
    assert {each.split: each.controls for each in course(two, 1, {"net": ""}).comparisons} == {
        "a1": ("longer1",),
        "a2": ("longer2",),
        "b1": ("longer1",),
        "b2": ("longer2",),
    }


def test_a_split_that_two_chains_share_is_compared_with_the_controls_of_both():
    two = study(chain("a", 1, ["longer", "random"]), chain("b", 1, ["longer", "inverse"]))
    assert list(stages(two)) == ["net", "a1", "longer1", "random1", "inverse1"]
    (comparison,) = course(two, 1, {"net": ""}).comparisons
    assert (comparison.split, comparison.controls) == ("a1", ("longer1", "random1", "inverse1"))


def test_controls_that_two_chains_do_not_share_have_the_chains_names():
    two = study(chain("a", 1, ["random"]), replace(chain("b", 1, ["random"]), generations=(
        Generation(WINDOW, 2),
    )))  # fmt: skip
    assert list(stages(two)) == ["net", "a1", "random1", "b1", "b_random1"]


def test_two_nets_of_one_name_are_refused():
    with pytest.raises(StudyError) as caught:
        stages(study(chain("net", 1), bases=(Base("net1", "digits"), replace(NET))))
    assert str(caught.value) == (
        "two nets of the study would be called 'net1', expected a name for each\n"
        "Rename a base or a chain."
    )


def test_a_trained_base_is_the_same_for_all_seeds():
    trained = study(chain(), bases=(Base("net", experiment="e", trained=True),))
    one, two = stages(trained, 1)["net"], stages(trained, 2)["net"]
    assert (one.key, str(one), one.kind) == (two.key, "net", "given")
    assert str(stages(trained, 2)["split1"]) == "seed2/split1"


def test_another_seed_changes_all_keys():
    assert changed(keys(study(chain())), keys(study(chain()), 2)) == set(keys(study(chain())))


def test_other_files_of_a_base_change_the_keys_of_what_comes_of_it_alone():
    two = study(
        chain("a", 1, ["longer"]),
        chain("b", 1, ["longer"], "other"),
        bases=(NET, Base("other", "digits", lsuv=True)),
    )
    assert changed(keys(two), keys(two, other="x")) == {"other", "b1", "b_longer1"}


CHANGES = {
    "window": (10, 30),
    "layers": ("conv1",),
    "method": "extension",
    "partition": "mean",
    "start": 15,
    "momentum": True,
    "setting": Setting(noise=0.5),
    "assignments": ("base_lr=1",),
}
SHARED = ("window", "start", "momentum", "assignments")


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_of_the_second_generation_changes_it_and_what_depends_on_it(field):
    assert set(CHANGES) == set(vars(Generation(WINDOW, 1)))
    first = chain()
    second = replace(first.generations[1], **{field: CHANGES[field]})
    other = replace(first, generations=(first.generations[0], second))
    expected = {"split2", "random2", "inverse2", "scratch", "scratch1", "scratch2"}
    if field in SHARED:
        expected.add("longer2")
    assert changed(keys(study(first)), keys(study(other))) == expected


@pytest.mark.parametrize(
    "field",
    [{"lsuv": True}, {"shuffle_labels": 0.5}, {"assignments": ("base_lr=1",)}],
)
def test_a_change_of_a_base_changes_all_that_comes_of_it(field):
    other = study(chain(), bases=(replace(NET, **field),))
    assert changed(keys(study(chain())), keys(other)) == set(keys(other))


def test_what_only_the_table_needs_changes_no_key():
    one = study(chain())
    other = replace(
        one, title="x", metric="loss", test_net=1, resume="start", windows=((1, 2),), layers=("a",)
    )
    assert keys(one) == keys(other)


generations = st.lists(
    st.builds(
        Generation,
        st.sampled_from([(1, 5), (2, 9)]),
        st.one_of(st.integers(1, 3), st.just(("conv1",))),
        st.sampled_from(["residual", "extension"]),
        momentum=st.booleans(),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
chains = st.lists(
    st.tuples(st.sampled_from(["net", "other"]), generations, st.sets(st.sampled_from(CONTROLS))),
    max_size=3,
)


@given(chains)
def test_every_stage_comes_once_and_after_those_it_needs(drawn):
    made = [
        Chain(f"c{number}_", base, own, tuple(each for each in CONTROLS if each in controls))
        for number, (base, own, controls) in enumerate(drawn)
    ]
    found = course(
        study(*made, bases=(NET, Base("other", "digits", lsuv=True))),
        1,
        dict.fromkeys(["net", "other"], ""),
    )
    seen = set()
    for stage in found.stages:
        assert seen >= set(stage.parents)
        assert stage.name not in seen
        seen.add(stage.name)
    assert len({stage.key for stage in found.stages}) == len(found.stages)
    for comparison in found.comparisons:
        assert seen >= {comparison.split, *comparison.controls}
    splits = [stage.name for stage in found.stages if stage.kind == "split"]
    assert [each.split for each in found.comparisons] == splits
