import math
from itertools import pairwise

import naive_metric
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffesplit.errors import SnapshotError
from caffesplit.metric import trajectory
from caffesplit.metric.history import History, kernels_first
from caffesplit.metric.trajectory import LayerScores, WindowScores, norms, scores


def history(states, every=100):
    """A history of mappings layer → array, at 100, 200, …"""
    iterations = tuple(every * (index + 1) for index in range(len(states)))
    return History(iterations, dict(zip(iterations, states, strict=True)).__getitem__)


def random_states(seed, count, shape, step=0.1):
    rng = np.random.default_rng(seed)
    path = rng.standard_normal(shape) + np.cumsum(
        step * rng.standard_normal((count, *shape)), axis=0
    )
    return [{"conv": state.astype(np.float32)} for state in path]


def layer(kernels):
    return LayerScores("conv", (len(kernels), 1), np.array(kernels, float))


def assert_as_naive(scored, states):
    for found in scored.layers:
        kernels = [
            naive_metric.kernel_tpm([state[found.name][k].tolist() for state in states])
            for k in range(found.num_output)
        ]
        for mine, naive in zip(found.kernels, kernels, strict=True):
            assert math.isnan(mine) if naive is None else mine == pytest.approx(naive, rel=1e-9)


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    count=st.integers(2, 6),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    step=st.sampled_from([1e-6, 1e-3, 1.0]),
)
def test_tpm_agrees_with_naive_loops_to_1e_9(seed, count, shape, step):
    states = random_states(seed, count, shape, step)
    states[0]["conv"][0] = states[-1]["conv"][0]
    (scored,) = scores(history(states), [(100, 100 * count)], ["conv"])
    assert_as_naive(scored, states)


def test_kernels_longer_than_a_block_agree_with_naive_loops_too():
    states = random_states(0, 3, (2, 30000))
    (scored,) = scores(history(states), [(100, 300)], ["conv"])
    assert_as_naive(scored, states)


def test_a_straight_path_has_tpm_1_and_a_closed_one_0():
    positions = [
        np.array([[0.0, 0], [0, 0]]),
        np.array([[1, 2], [1, 0]]),
        np.array([[3, 6], [0, 0]]),
    ]
    states = [{"conv": position.astype(np.float32)} for position in positions]
    (scored,) = scores(history(states), [(100, 300)], ["conv"])
    assert scored.layers[0].kernels.tolist() == [pytest.approx(1, abs=1e-15), 0.0]
    assert scored.layers[0].kernels.max() <= 1


def test_tpm_does_not_change_with_scale_or_origin():
    states = random_states(1, 5, (4, 3, 3, 3))
    moved = [{"conv": state["conv"].astype(np.float64) * -8 + 3} for state in states]
    window = [(100, 500)]
    (one,), (other,) = (scores(history(each), window, ["conv"]) for each in (states, moved))
    np.testing.assert_allclose(one.layers[0].kernels, other.layers[0].kernels, rtol=1e-12)


def test_a_random_walk_has_about_the_level_that_is_printed():
    states = random_states(2, 26, (50, 2000), step=1.0)
    (scored,) = scores(history(states), [(100, 2600)], ["conv"])
    assert scored.random_walk == 25**-0.5
    assert scored.layers[0].tpm == pytest.approx(scored.random_walk, rel=0.02)


def test_a_kernel_that_never_moved_is_undefined_and_left_out():
    states = random_states(3, 4, (3, 2))
    for state in states:
        state["conv"][1] = 7
    (scored,) = scores(history(states), [(100, 400)], ["conv"])
    found = scored.layers[0]
    assert np.isnan(found.kernels).tolist() == [False, True, False]
    assert (found.undefined, found.diverged) == (1, 0)
    assert found.tpm == pytest.approx(naive_metric.layer_tpm([found.kernels[0], found.kernels[2]]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_kernel_that_diverged_is_undefined_and_counted(value):
    states = random_states(4, 3, (3, 2))
    states[1]["conv"][2, 0] = value
    (scored,) = scores(history(states), [(100, 300)], ["conv"])
    assert np.isnan(scored.layers[0].kernels).tolist() == [False, False, True]
    assert (scored.layers[0].undefined, scored.layers[0].diverged) == (1, 1)


def test_overlapping_windows_in_one_pass_equal_each_window_alone():
    states = random_states(5, 9, (4, 2, 3, 3))
    windows = [(100, 900), (300, 500), (250, 700), (800, 900)]
    together = scores(history(states), windows, ["conv"])
    for window, found in zip(windows, together, strict=True):
        (alone,) = scores(history(states), [window], ["conv"])
        assert found.iterations == alone.iterations
        np.testing.assert_array_equal(found.layers[0].kernels, alone.layers[0].kernels)


def test_a_batch_of_steps_more_than_are_compared_at_once_changes_nothing(monkeypatch):
    states = random_states(6, 12, (3, 5))
    (whole,) = scores(history(states), [(100, 1200)], ["conv"])
    monkeypatch.setattr(trajectory, "PAIRS_AT_ONCE", 2)
    (pieces,) = scores(history(states), [(100, 1200)], ["conv"])
    np.testing.assert_array_equal(whole.layers[0].kernels, pieces.layers[0].kernels)
    assert_as_naive(pieces, states)


def test_progress_ends_at_its_total():
    seen = []
    states = random_states(7, 30, (2, 2))
    scores(history(states), [(100, 3000)], ["conv"], lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert all(one < other for (one, _), (other, _) in pairwise(seen))


@pytest.mark.parametrize(
    ("counts", "entropy"),
    [
        ((6, 3, 1), 0.897945724857),
        ((148, 44), 0.538267453228),
        ((171, 19, 1), 0.356101654402),
    ],
)
def test_entropy_gives_the_figures_that_notebook_003_printed(counts, entropy):
    kernels = [0.05 + 0.1 * bin for bin, count in enumerate(counts) for _ in range(count)]
    assert layer([*kernels, np.nan]).entropy() == pytest.approx(entropy, abs=1e-12)


@given(st.lists(st.floats(0, 1) | st.just(np.nan), min_size=1, max_size=30), st.integers(1, 20))
def test_entropy_and_layer_tpm_agree_with_naive_loops(kernels, bins):
    kernels = [value if math.isnan(value) else round(value, 3) + 1e-4 for value in kernels]
    kernels = [min(value, 1.0) for value in kernels]
    naive = [None if math.isnan(value) else value for value in kernels]
    expected = naive_metric.entropy(naive, bins), naive_metric.layer_tpm(naive)
    for found, value in zip(
        (layer(kernels).entropy(bins), layer(kernels).tpm), expected, strict=True
    ):
        assert math.isnan(found) if value is None else found == pytest.approx(value, abs=1e-12)


def test_a_tpm_of_exactly_1_is_in_the_last_bin():
    assert layer([1.0, 0.95]).entropy() == 0


def test_mean_entropy_leaves_out_layers_without_one():
    window = WindowScores((0, 1), (0, 1), (layer([0.05, 0.95]), layer([np.nan])))
    assert window.mean_entropy() == pytest.approx(math.log(2))
    assert math.isnan(WindowScores((0, 1), (0, 1), (layer([np.nan]),)).mean_entropy())


def test_norms_are_those_of_the_windows_ends():
    states = random_states(8, 4, (3, 2, 5, 5))
    (found,) = norms(history(states), [(150, 400)], ["conv"])
    assert found.iterations == (200, 300, 400)
    assert found.layers[0].start == pytest.approx(naive_metric.norm(states[1]["conv"].tolist()))
    assert found.layers[0].end == pytest.approx(naive_metric.norm(states[3]["conv"].tolist()))


def test_snapshots_of_different_nets_are_refused():
    states = random_states(9, 3, (3, 2))
    states[2]["conv"] = states[2]["conv"][:2]
    with pytest.raises(SnapshotError) as caught:
        scores(history(states), [(100, 300)], ["conv"])
    assert str(caught.value) == (
        'layer "conv" has weights of shape (2, 2) at iteration 300, expected (3, 2) as at '
        "iteration 100\nAll snapshots must be of one net: are there older ones under the same "
        "prefix?"
    )


def test_a_layer_missing_from_a_snapshot_is_named():
    states = random_states(10, 3, (3, 2))
    del states[1]["conv"]
    with pytest.raises(SnapshotError, match='iteration 200 has no weights of layer "conv"'):
        scores(history(states), [(100, 300)], ["conv"])


@pytest.mark.parametrize(("window", "count"), [((100, 199), 1), ((101, 199), 0), ((301, 900), 0)])
def test_a_window_of_fewer_than_two_snapshots_lists_those_there_are(window, count):
    with pytest.raises(SnapshotError) as caught:
        scores(history(random_states(11, 3, (2, 2))), [window], ["conv"])
    first, last = window
    assert str(caught.value) == (
        f"{count} of 3 snapshots in window {first}:{last}, expected at least two\n"
        "Choose another window; there are snapshots at 100, 200, 300."
    )


def test_kernels_of_a_grouped_deconvolution_are_its_output_channels():
    """Caffe's blob is (C, N/G, KH, KW): group g maps inputs g·C/G … to outputs g·N/G …"""
    weight = np.arange(4 * 3 * 2 * 2, dtype=np.float32).reshape(4, 3, 2, 2)
    kernels = kernels_first(weight, "Deconvolution", group=2)
    assert kernels.shape == (6, 2, 2, 2)
    for n in range(6):
        group, within = divmod(n, 3)
        for c in range(2):
            np.testing.assert_array_equal(kernels[n, c], weight[2 * group + c, within])


def test_kernels_of_inner_products_are_rows_or_columns_and_legacy_axes_are_dropped():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(kernels_first(weight, "InnerProduct"), weight)
    np.testing.assert_array_equal(kernels_first(weight, "InnerProduct", transpose=True), weight.T)
    np.testing.assert_array_equal(kernels_first(weight[None, None], "InnerProduct"), weight)


def test_weights_that_are_not_the_layer_types_are_refused():
    with pytest.raises(SnapshotError, match=r"weights of shape \(3,\), expected those"):
        kernels_first(np.zeros(3, np.float32), "Convolution")
