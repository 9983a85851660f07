"""What the parts of a split compute, for every form and every geometry of a layer."""

import numpy as np
import pytest
from split_cases import CASES, base, base_outputs, derive, outputs, plan

from caffesplit.net.check import check_net, check_weights

EXACT = {
    "extension": {"noise": 0.0},
    "extension, preserved": {"preserve": True},
    "residual": {"preserve": True, "noise": 0.05},
    "skip": {"preserve": True},
    "skip, averaged": {"preserve": True, "skip_stride": "average"},
}
"""Settings under which the parts compute X: by the form, behind which a comma may tell more."""


def assert_near(found, expected, rtol=1e-6):
    """Equal up to `rtol` of the largest value: what float32 weights allow."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= rtol * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", EXACT)
def test_a_split_that_starts_exactly_computes_the_layer_it_replaces(form, case):
    net, weights = derive(case, form.partition(",")[0], **EXACT[form])
    assert_near(outputs(net, weights, base(case)[2]), base_outputs(case))


@pytest.mark.parametrize("case", CASES)
def test_extension_and_reorder_without_noise_change_no_bit(case):
    net, weights = derive(case, "extension", noise=0)
    np.testing.assert_array_equal(outputs(net, weights, base(case)[2]), base_outputs(case))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["extension", "residual", "skip"])
def test_a_derived_net_is_legal_and_its_weights_fit(method, case):
    net, weights = derive(case, method, activation="relu" if method == "residual" else "none")
    assert check_net(net) == ()
    assert check_weights(net, weights) == ()


@pytest.mark.parametrize("case", CASES)
def test_residual_adds_the_edge_preserving_kernel_to_the_slow_kernels(case):
    net, weights, data = base(case)
    kernels, *bias = weights["X"]
    kernels = kernels[0, 0] if case == "ip_legacy" else kernels
    lifted = kernels.astype(float)
    slow = list(plan("residual", case).layers[0].slow)
    if case.startswith("ip"):
        by_kernel = lifted.T if "transpose: true" in CASES[case][2] else lifted
        by_kernel[slow] *= 1 - 0.5 + 1.5
    else:
        centre = tuple(extent // 2 for extent in kernels.shape[2:])
        lifted[slow] *= 1 - 0.5
        lifted[(slow, slice(None), *centre)] += 1.5 * kernels[(slow, slice(None), *centre)]

    found = outputs(*derive(case, "residual", noise=0, edge=(-0.5, 1.5)), data)

    assert_near(found, outputs(net, {"X": [lifted, *bias]}, data))


def beyond(data, *ends):
    """`data` with so many further zeros at the end of each spatial axis."""
    return np.pad(data, [(0, 0), (0, 0), *((0, end) for end in ends)])


def means(data, *extents):
    """The mean of each block of so many pixels."""
    split = [
        each for size, n in zip(data.shape[2:], extents, strict=True) for each in (size // n, n)
    ]
    blocks = data.reshape(*data.shape[:2], *split)
    return blocks.mean(axis=tuple(range(3, blocks.ndim, 2)))


SAMPLE = {
    "plain": lambda data: data,
    "no_bias": lambda data: data,
    "point": lambda data: data,
    "grouped": lambda data: data,
    "dilated": lambda data: data,
    "volume": lambda data: data,
    "strided": lambda data: data[:, :, ::2, ::2],
    "strided_2": lambda data: data[:, :, ::2, ::2],
    "strided_5": lambda data: data[:, :, ::3, ::3],
    "strided_group": lambda data: data[:, :, ::2, ::2],
    "rectangular": lambda data: data[:, :, :, ::2],
    "line": lambda data: data[:, :, ::2],
    "valid": lambda data: data[:, :, :3, :4],
    "grouped_3": lambda data: data[:, :, :3, :3],
    "even": lambda data: beyond(data, 1, 0)[:, :, :, :5],
    "dilated_off": lambda data: data[:, :, 1:6, 1:5],
    "ip": lambda data: data.reshape(3, 16),
    "ip_transposed": lambda data: data,
    "ip_legacy": lambda data: data,
}
AVERAGE = SAMPLE | {
    "strided": lambda data: means(beyond(data, 1, 0), 2, 2),
    "strided_2": lambda data: means(data, 2, 2),
    "strided_5": lambda data: means(beyond(data, 1, 0), 3, 3),
    "strided_group": lambda data: means(beyond(data, 1, 0), 2, 2),
    "rectangular": lambda data: means(beyond(data, 0, 1), 1, 2),
    "line": lambda data: means(beyond(data, 1), 2),
}
"""What a skip passes on of each input channel."""


@pytest.mark.parametrize("case", SAMPLE)
@pytest.mark.parametrize("flow", ["sample", "average"])
def test_skip_adds_input_channel_i_to_the_slow_kernel_i_of_its_group(flow, case):
    data, expected = base(case)[2], base_outputs(case)
    passed = (SAMPLE if flow == "sample" else AVERAGE)[case](data)
    group = {"grouped": 2, "strided_group": 2, "grouped_3": 3}.get(case, 1)
    slow, share = plan("skip", case).layers[0].slow, passed.shape[1] // group
    for kernel in slow:
        within = [each for each in slow if each // (6 // group) == kernel // (6 // group)]
        position = within.index(kernel)
        if position < share:
            expected[:, kernel] += passed[:, kernel // (6 // group) * share + position]

    found = outputs(*derive(case, "skip", noise=0, skip_stride=flow), data)

    assert_near(found, expected)
