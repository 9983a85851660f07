"""Layers with drawn options over drawn bottoms, most of them such as Caffe takes."""

from contextlib import suppress

from hypothesis import strategies as st


def net_text(type_name, bottoms, tops=1, rest=""):
    """A layer x of a type, over inputs of the given shapes."""
    text = ""
    for number, shape in enumerate(bottoms):
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "b{number}" type: "Input" top: "b{number}" '
        text += f"input_param {{ shape {{ {dims} }} }} }}\n"
    names = [f'bottom: "b{number}"' for number in range(len(bottoms))]
    names += [f'top: "x{number}"' for number in range(tops)]
    return text + f'layer {{ name: "x" type: "{type_name}" {" ".join(names)} {rest} }}\n'


sizes = st.integers(1, 7)
few = st.integers(1, 3)


def shape(least=1, most=5):
    return st.lists(sizes, min_size=least, max_size=most)


images = st.one_of(shape(4, 4), shape(0, 5))


def mostly(strategy, odd):
    """Nine times out of ten the first."""
    return st.integers(0, 9).flatmap(lambda number: odd if number == 0 else strategy)


@st.composite
def fields(draw, **options):
    """`name: value` for those options that are drawn; a list for a repeated one."""
    text = ""
    for name, strategy in options.items():
        values = draw(st.one_of(st.none(), strategy))
        for value in values if isinstance(values, list) else [values]:
            text += "" if value is None else f"{name}: {_written(value)} "
    return text


def _written(value):
    return str(value).lower() if isinstance(value, bool) else value


@st.composite
def extents(draw, axes, ranges):
    """kernel_size, stride, pad and dilation: once, or for each axis, or by side."""
    text = ""
    for name, strategy in ranges.items():
        sides = name.removesuffix("_size")
        if name != "dilation" and draw(mostly(st.just(False), st.just(True))):
            text += f"{sides}_h: {draw(strategy)} {sides}_w: {draw(strategy)} "
            continue
        times = draw(mostly(st.sampled_from([1, max(axes, 1)]), st.integers(1, 3)))
        text += "".join(f"{name}: {draw(strategy)} " for _ in range(times))
    return text


@st.composite
def convolutions(draw):
    type_name = draw(st.sampled_from(["Convolution", "Deconvolution", "Im2col"]))
    bottom = draw(mostly(shape(3, 5), images))
    count = draw(mostly(st.just(1), st.integers(1, 2))) if type_name != "Im2col" else 1
    bottoms = [bottom, *([draw(mostly(st.just(bottom), images))] if count == 2 else [])]
    axis = draw(mostly(st.just(1), st.integers(-5, 5)))
    spatial = len(bottom) - (axis if axis >= 0 else len(bottom) + axis) - 1
    ranges = {"kernel_size": few, "stride": few, "pad": st.integers(0, 2), "dilation": few}
    group = draw(mostly(st.just(1), st.integers(1, 3)))
    text = draw(extents(spatial, ranges)) + draw(fields(bias_term=st.booleans()))
    text += f"axis: {axis} group: {group} num_output: {group * draw(few)}"
    return net_text(type_name, bottoms, count, f"convolution_param {{ {text} }}")


@st.composite
def poolings(draw):
    if draw(st.integers(0, 4)) == 0:
        rest = f"spp_param {{ pyramid_height: {draw(few)} }}"
        return net_text("SPP", [draw(mostly(shape(4, 4), images))], 1, rest)
    text = "global_pooling: true"
    if draw(mostly(st.just(True), st.booleans())):
        kernel, pad = st.integers(1, 4), mostly(st.just(0), st.integers(0, 3))
        if draw(st.booleans()):
            text = f"kernel_size: {draw(kernel)} stride: {draw(few)} pad: {draw(pad)}"
        else:
            text = f"kernel_h: {draw(kernel)} kernel_w: {draw(kernel)} "
            text += draw(fields(stride_h=few, stride_w=few, pad_h=pad, pad_w=pad))
    text += f" pool: {draw(st.sampled_from(['MAX', 'AVE']))}"
    tops = 1 if "AVE" in text else draw(st.integers(1, 2))
    bottom = draw(mostly(shape(4, 4), images))
    return net_text("Pooling", [bottom], tops, f"pooling_param {{ {text} }}")


axes = st.integers(-5, 5)
low_axes = mostly(st.integers(-2, 1), axes)


@st.composite
def unary(draw):
    """Types with one bottom, one top and few options."""
    type_name, options = draw(st.sampled_from(sorted(UNARY.items())))
    name = PARAMETERS.get(type_name, "")
    rest = f"{name} {{ {draw(fields(**options))} }}" if options else ""
    return net_text(type_name, [draw(mostly(shape(2, 4), images))], 1, rest)


PLAIN = "AbsVal BatchNorm BNLL Dropout ELU Exp Log Power ReLU Sigmoid Split TanH Threshold"
UNARY = {
    **{name: {} for name in PLAIN.split()},
    "ArgMax": {"axis": low_axes, "top_k": few, "out_max_val": st.booleans()},
    "Bias": {"axis": low_axes, "num_axes": st.integers(-2, 3)},
    "Embed": {"num_output": few, "input_dim": few, "bias_term": st.booleans()},
    "Flatten": {"axis": low_axes, "end_axis": axes},
    "InnerProduct": {
        "num_output": few,
        "axis": low_axes,
        "transpose": st.booleans(),
        "bias_term": st.booleans(),
    },
    "LRN": {
        "local_size": st.integers(1, 5),
        "norm_region": st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]),
    },
    "MVN": {"across_channels": st.booleans()},
    "PReLU": {"channel_shared": st.booleans()},
    "Reduction": {"axis": low_axes},
    "Scale": {"axis": low_axes, "num_axes": st.integers(-2, 3), "bias_term": st.booleans()},
    "Softmax": {"axis": low_axes},
    "Tile": {"axis": low_axes, "tiles": few},
}
PARAMETERS = {
    "ArgMax": "argmax_param",
    "Bias": "bias_param",
    "Embed": "embed_param",
    "Flatten": "flatten_param",
    "InnerProduct": "inner_product_param",
    "LRN": "lrn_param",
    "MVN": "mvn_param",
    "PReLU": "prelu_param",
    "Reduction": "reduction_param",
    "Scale": "scale_param",
    "Softmax": "softmax_param",
    "Tile": "tile_param",
}


@st.composite
def reshapes(draw):
    bottom = draw(shape(1, 4))
    new = draw(
        mostly(
            st.sampled_from([[0, -1], [-1], [0, 0, -1], [-1, 1], [0, 1, -1], bottom]),
            st.lists(st.integers(-2, 4), max_size=4),
        )
    )
    text = f"shape {{ {' '.join(f'dim: {size}' for size in new)} }} "
    text += draw(mostly(st.just(""), fields(axis=axes, num_axes=st.integers(-2, 3))))
    return net_text("Reshape", [bottom], 1, f"reshape_param {{ {text} }}")


@st.composite
def alike(draw):
    """Several bottoms of which all but one axis, or all, are the same; or parts of one bottom."""
    bottom = draw(mostly(shape(2, 4), images))
    type_name = draw(st.sampled_from(["Concat", "Eltwise", "Slice"]))
    axis = draw(low_axes)
    old = {"Concat": "concat_dim", "Slice": "slice_dim"}.get(type_name)
    text = ""
    if old:
        text = draw(fields(**{old: st.integers(0, 3)})) or f"axis: {axis}"
    if type_name == "Slice":
        tops = draw(few)
        points = draw(st.one_of(st.just([]), st.lists(st.integers(1, 6), max_size=2)))
        points = sorted(set(points)) if draw(st.booleans()) else points
        tops = len(points) + 1 if points and draw(mostly(st.just(True), st.booleans())) else tops
        text += "".join(f" slice_point: {point}" for point in points)
        return net_text("Slice", [bottom], tops, f"slice_param {{ {text} }}")
    bottoms = [bottom]
    for _ in range(draw(few)):
        other = list(bottom)
        with suppress(IndexError):
            other[axis] = draw(sizes) if type_name == "Concat" else other[axis]
        bottoms.append(draw(mostly(st.just(other), images)))
    return net_text(type_name, bottoms, 1, f"{type_name.lower()}_param {{ {text} }}")


@st.composite
def pairs(draw):
    """A bottom and another that tells what becomes of it."""
    bottom = draw(mostly(shape(2, 4), images))
    type_name = draw(st.sampled_from(["BatchReindex", "Crop", "Filter", "Scale", "Bias"]))
    axis, rest = draw(low_axes), ""
    if type_name == "BatchReindex":
        other = draw(mostly(shape(1, 1), images))
    elif type_name == "Filter":
        other = draw(mostly(st.just([*bottom[:1], 1]), images))
    elif type_name == "Crop":
        other = draw(mostly(st.just([max(size - 1, 1) for size in bottom]), images))
        offsets = draw(st.lists(st.integers(0, 2), max_size=3))
        rest = f"axis: {axis} " + " ".join(f"offset: {offset}" for offset in offsets)
        rest = f"crop_param {{ {rest} }}"
    else:
        other = draw(mostly(st.integers(0, 3).map(lambda n: bottom[axis:][:n]), images))
        rest = f"axis: {axis} "
        rest += draw(fields(bias_term=st.booleans())) if type_name == "Scale" else ""
        rest = f"{type_name.lower()}_param {{ {rest} }}"
    return net_text(type_name, [bottom, other], 1, rest)


@st.composite
def losses(draw):
    type_name = draw(st.sampled_from(sorted(LABELS)))
    bottom = draw(mostly(shape(2, 4), images))
    other, rest, tops = list(bottom), "", draw(st.integers(0, 1))
    bottoms = [bottom]
    axis = draw(mostly(st.just(1), axes))
    if type_name in ("SoftmaxWithLoss", "InfogainLoss", "Accuracy"):
        with suppress(IndexError):
            del other[axis]
        tops = draw(
            {"Accuracy": st.integers(1, 2), "InfogainLoss": st.integers(0, 2)}.get(
                type_name, st.integers(0, 1)
            )
        )
        more = f"top_k: {draw(few)}" if type_name == "Accuracy" else ""
        rest = f"{LABELS[type_name]} {{ axis: {axis} {more} }}"
        if tops == 2 and type_name != "Accuracy":
            rest += draw(mostly(st.just(" loss_weight: 1 loss_weight: 0"), st.just("")))
    elif type_name == "ContrastiveLoss":
        bottom[2:] = draw(mostly(st.just([1] * len(bottom[2:])), st.just(bottom[2:])))
        other = list(bottom)
    elif type_name in ("MultinomialLogisticLoss", "HingeLoss"):
        other = draw(mostly(st.just(bottom[:1]), st.just(bottom)))
    bottoms.append(draw(mostly(st.just(other), images)))
    if type_name == "InfogainLoss":
        classes = bottom[axis] if -len(bottom) <= axis < len(bottom) else 1
        bottoms.append(draw(mostly(st.just([classes, classes]), images)))
    if type_name == "ContrastiveLoss":
        bottoms.append(draw(mostly(st.just(bottom[:1]), st.just(bottom))))
    return net_text(type_name, bottoms, tops, rest)


LABELS = {
    "Accuracy": "accuracy_param",
    "ContrastiveLoss": "",
    "EuclideanLoss": "",
    "HingeLoss": "",
    "InfogainLoss": "infogain_loss_param",
    "MultinomialLogisticLoss": "",
    "SigmoidCrossEntropyLoss": "",
    "SoftmaxWithLoss": "softmax_param",
}


@st.composite
def recurrents(draw):
    type_name = draw(st.sampled_from(["LSTM", "RNN", "LSTMUnit"]))
    steps, streams, hidden = draw(few), draw(few), draw(few)
    if type_name == "LSTMUnit":
        cell = [draw(mostly(st.just(1), few)), streams, hidden]
        gates = draw(mostly(st.just([1, streams, 4 * hidden]), images))
        return net_text(type_name, [cell, gates, draw(mostly(st.just([1, streams]), images))], 2)
    bottoms = [[steps, streams, *draw(mostly(shape(1, 2), shape(0, 2)))]]
    bottoms.append(draw(mostly(st.just([steps, streams]), images)))
    if draw(st.booleans()):
        bottoms.append(draw(mostly(st.just([streams, *draw(shape(1, 2))]), images)))
    exposed = draw(st.booleans())
    states = {"LSTM": 2, "RNN": 1}[type_name] if exposed else 0
    bottoms += [draw(mostly(st.just([1, streams, hidden]), images)) for _ in range(states)]
    rest = f"recurrent_param {{ num_output: {hidden} expose_hidden: {str(exposed).lower()} "
    rest += "weight_filler { type: 'xavier' } }"
    return net_text(type_name, bottoms, 1 + states, rest)


FAMILIES = {
    "convolutions": (convolutions(), 60),
    "poolings": (poolings(), 40),
    "unary": (unary(), 90),
    "reshapes": (reshapes(), 40),
    "alike": (alike(), 60),
    "pairs": (pairs(), 50),
    "losses": (losses(), 60),
    "recurrents": (recurrents(), 25),
}
