"""The pictures of tpm and norms as a user asks for them."""

import pytest
from click.testing import CliRunner
from small_experiment import make

from caffesplit.cli.main import cli

WINDOWS = ("--window", "100:300", "--window", "200:400")


@pytest.fixture
def caffesplit(tmp_path):
    """Run the command line on a small experiment, the last argument a picture in its folder."""
    base = make(tmp_path)

    def run(verb, *arguments):
        *options, picture = arguments
        command = [verb, base, *options, "--plot", tmp_path / picture]
        return CliRunner().invoke(cli, [str(each) for each in command]), tmp_path / picture

    return run


def test_a_window_is_drawn_as_histograms(caffesplit):
    done, picture = caffesplit("tpm", "--window", "100:400", "tpm.svg")
    assert done.exit_code == 0
    assert ">TPM of kernels, iterations 100 to 400, 4 snapshots<" in picture.read_text()


def test_several_windows_are_drawn_as_curves(caffesplit):
    done, picture = caffesplit("tpm", *WINDOWS, "--bins", "5", "tpm.svg")
    assert done.exit_code == 0
    drawn = picture.read_text()
    assert ">TPM, mean of each layer<" in drawn
    assert ">Entropy of each layer's TPM in 5 bins<" in drawn


def test_norms_are_drawn_and_printed(caffesplit):
    done, picture = caffesplit("norms", *WINDOWS, "norms.svg")
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == 4
    assert ">Norm of each layer's weights<" in picture.read_text()


@pytest.mark.parametrize("verb", ["tpm", "norms"])
def test_a_picture_is_replaced_only_with_force(caffesplit, verb):
    assert caffesplit(verb, *WINDOWS, "a.png")[0].exit_code == 0
    done, picture = caffesplit(verb, *WINDOWS, "a.png")
    before = picture.read_bytes()
    assert "the output exists already" in str(done.exception)
    assert picture.read_bytes() == before
    assert caffesplit(verb, *WINDOWS, "--force", "a.png")[0].exit_code == 0
