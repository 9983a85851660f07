from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.wiring import wire


def net(*layers):
    texts = []
    for line in layers:
        name, bottoms, tops, *rule = line.split("|")
        wiring = "".join(f'bottom: "{each}" ' for each in bottoms.split())
        wiring += "".join(f'top: "{each}" ' for each in tops.split())
        texts.append(f'layer {{ name: "{name}" type: "Any" {wiring} {"".join(rule)} }}')
    return graph.build(prototxt.parse('input: "x" ' + "\n".join(texts)))


def test_a_bottom_reads_the_last_value_of_its_name_before_it():
    wiring = wire(net("conv|x|a", "early|a|b", "relu|a|a", "late|a|c"))
    assert wiring.bottoms == (
        ({(-1, 0)},),
        ({(0, 0)},),
        ({(0, 0)},),
        ({(2, 0)},),
    )
    assert wiring.readers()[0, 0] == [(1, 0), (2, 0)]


def test_a_value_that_each_phase_makes_itself_has_both_makers():
    wiring = wire(
        net(
            "train||data|include { phase: TRAIN }",
            "test||data|include { phase: TEST }",
            "conv|data|a",
        )
    )
    assert wiring.bottoms[2] == ({(0, 0), (1, 0)},)
    assert wiring.states[0] | wiring.states[1] == wiring.states[2]


def test_stages_are_states_of_their_own():
    wiring = wire(net("deploy||data|include { stage: 'deploy' }", "conv|data|a"))
    assert wiring.bottoms[1] == ({(0, 0)},)
    assert len(wiring.states[0]) == 2
    assert len(wiring.states[1]) == 4


def test_a_bottom_that_nobody_makes_reads_nothing():
    assert wire(net("conv|missing|a")).bottoms == ((set(),),)
