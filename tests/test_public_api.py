"""The names that others may rely on."""

import caffesplit


def test_every_public_name_can_be_had():
    assert sorted(caffesplit._HOMES) == sorted(caffesplit.__all__)
    for name in caffesplit.__all__:
        assert callable(getattr(caffesplit, name))


def test_the_contracts_of_the_modules_hold():
    from caffesplit.formats import caffemodel, prototxt, trainlog

    text = 'name: "net" # comment'
    assert str(prototxt.parse(text)) == text
    assert callable(caffemodel.read)
    assert callable(trainlog.read)
