import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from caffesplit.errors import OutputError
from caffesplit.report import figures


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")]
)
def test_the_ending_chooses_the_format(tmp_path, ending, start):
    path = tmp_path / f"new/figure.{ending}"
    figures.save(Figure(), path)
    assert path.read_bytes().startswith(start)


def test_another_ending_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(OutputError) as caught:
        figures.save(Figure(), tmp_path / "new/figure.gif")
    assert str(caught.value) == (
        f'{tmp_path}/new/figure.gif: the ending ".gif" names no picture format, '
        "expected .png, .svg or .pdf\nGive the picture another ending."
    )
    assert not (tmp_path / "new").exists()


def test_a_picture_is_replaced_only_with_force(tmp_path):
    path = tmp_path / "figure.svg"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        figures.save(Figure(), path)
    assert path.read_text() == "mine"
    figures.save(Figure(), path, force=True)
    assert path.read_text() != "mine"


def test_a_character_that_no_font_has_is_a_box_and_no_warning(tmp_path):
    figure = Figure()
    figure.text(0, 0, "\ue000")
    figures.save(figure, tmp_path / "figure.png")


def test_matplotlib_is_loaded_when_a_figure_is_drawn_and_not_before():
    program = (
        "import sys; from caffesplit.report import figures, tables; "
        "assert 'matplotlib' not in sys.modules; import matplotlib; "
        "assert 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
