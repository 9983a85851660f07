"""Which files and folders a net's layers name, and which of them Caffe reads."""

from __future__ import annotations

import pytest

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.sources import PATH_FIELDS, READERS, named_paths, read_paths


def paths(found, text):
    layers = graph.build(prototxt.parse(f'layer {{ name: "a" {text} }}')).layers
    return [(field.name, path) for field, path in found(layers)]


@pytest.mark.parametrize(
    ("of", "param"),
    [
        ("Data", "data_param"),
        ("ImageData", "image_data_param"),
        ("HDF5Data", "hdf5_data_param"),
        ("InfogainLoss", "infogain_loss_param"),
        ("WindowData", "window_data_param"),
    ],
)
def test_a_source_is_read_by_the_type_it_is_meant_for_alone(of, param):
    text = f'{param} {{ source: "there" }}'
    assert paths(read_paths, f'type: "{of}" {text}') == [("source", "there")]
    for other in ("DummyData", "InnerProduct", "MemoryData"):
        assert paths(read_paths, f'type: "{other}" {text}') == []
        assert paths(named_paths, f'type: "{other}" {text}') == [("source", "there")]


def test_a_mean_is_read_by_data_layers_that_transform_images():
    text = 'transform_param { mean_file: "mean" }'
    for reader in ("Data", "ImageData", "MemoryData", "WindowData"):
        assert paths(read_paths, f'type: "{reader}" {text}') == [("mean_file", "mean")]
    assert paths(read_paths, f'type: "DummyData" {text}') == []


def test_an_infogain_matrix_is_read_unless_it_is_the_third_bottom():
    text = 'type: "InfogainLoss" infogain_loss_param { source: "h" } bottom: "x" bottom: "label"'
    assert paths(read_paths, text) == [("source", "h")]
    assert paths(read_paths, f'{text} bottom: "h"') == []


@pytest.mark.parametrize(
    ("prefix", "folder"),
    [
        ("png/", ["png/"]),
        ("png/p_", ["png/"]),
        ("/all/png/p_", ["/all/png/"]),
        ("/p_", ["/"]),
        ("p_", []),
        ("", []),
    ],
)
def test_of_a_root_folder_only_the_folders_need_be_there_as_names_are_appended_to_it(
    prefix, folder
):
    text = f'type: "ImageData" image_data_param {{ root_folder: "{prefix}" }}'
    assert paths(read_paths, text) == [("root_folder", each) for each in folder]


def test_every_message_with_paths_has_its_readers():
    assert READERS.keys() == PATH_FIELDS.keys()
