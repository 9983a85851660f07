"""Nets built like those of Caffe's examples and models, some of them narrower.

Architectures after examples/mnist, examples/cifar10, examples/siamese, models/bvlc_alexnet,
models/bvlc_reference_caffenet and models/bvlc_googlenet of BVLC Caffe.
"""


def layer(name, type_name, bottoms, top=None, rest=""):
    names = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    top = name if top is None else top
    return f'layer {{ name: "{name}" type: "{type_name}" {names} top: "{top}" {rest} }}\n'


def data(name, *shape):
    sizes = " ".join(f"dim: {size}" for size in shape)
    return layer(name, "Input", "", name, f"input_param {{ shape {{ {sizes} }} }}")


def labelled(*shape):
    return data("data", *shape) + data("label", shape[0])


def conv(name, bottom, num_output, kernel, options="", rest=""):
    options = f"num_output: {num_output} kernel_size: {kernel} {options}"
    return layer(name, "Convolution", bottom, name, f"convolution_param {{ {options} }} {rest}")


def relu(name):
    return layer(f"relu_{name}", "ReLU", name, name)


def pool(name, bottom, kernel, stride, options=""):
    options = f"kernel_size: {kernel} stride: {stride} {options}"
    return layer(name, "Pooling", bottom, name, f"pooling_param {{ {options} }}")


def lrn(name, bottom, options):
    return layer(name, "LRN", bottom, name, f"lrn_param {{ {options} }}")


def dense(name, bottom, num_output, top=None, rest=""):
    options = f"inner_product_param {{ num_output: {num_output} }} {rest}"
    return layer(name, "InnerProduct", bottom, top, options)


def dropout(name):
    return layer(f"drop_{name}", "Dropout", name, name)


def losses(bottom, suffix="", rest=""):
    return layer(f"loss{suffix}", "SoftmaxWithLoss", f"{bottom} label", None, rest) + layer(
        f"accuracy{suffix}", "Accuracy", f"{bottom} label"
    )


def lenet(batch=4):
    text = labelled(batch, 1, 28, 28)
    text += conv("conv1", "data", 20, 5) + pool("pool1", "conv1", 2, 2)
    text += conv("conv2", "pool1", 50, 5) + pool("pool2", "conv2", 2, 2)
    text += dense("ip1", "pool2", 500) + relu("ip1") + dense("ip2", "ip1", 10)
    return text + losses("ip2")


def cifar10_quick(batch=4):
    text = labelled(batch, 3, 32, 32)
    text += conv("conv1", "data", 32, 5, "pad: 2") + pool("pool1", "conv1", 3, 2) + relu("pool1")
    text += conv("conv2", "pool1", 32, 5, "pad: 2") + relu("conv2")
    text += pool("pool2", "conv2", 3, 2, "pool: AVE")
    text += conv("conv3", "pool2", 64, 5, "pad: 2") + relu("conv3")
    text += pool("pool3", "conv3", 3, 2, "pool: AVE")
    return text + dense("ip1", "pool3", 64) + dense("ip2", "ip1", 10) + losses("ip2")


def cifar10_full(batch=4):
    within = "local_size: 3 alpha: 5e-05 beta: 0.75 norm_region: WITHIN_CHANNEL"
    text = labelled(batch, 3, 32, 32)
    text += conv("conv1", "data", 32, 5, "pad: 2") + pool("pool1", "conv1", 3, 2) + relu("pool1")
    text += lrn("norm1", "pool1", within) + conv("conv2", "norm1", 32, 5, "pad: 2") + relu("conv2")
    text += pool("pool2", "conv2", 3, 2, "pool: AVE") + lrn("norm2", "pool2", within)
    text += conv("conv3", "norm2", 64, 5, "pad: 2") + relu("conv3")
    return (
        text + pool("pool3", "conv3", 3, 2, "pool: AVE") + dense("ip1", "pool3", 10) + losses("ip1")
    )


def alexnet(batch=2, norm_first=True):
    """norm_first: normalised, then pooled; CaffeNet has it the other way round."""
    across = "local_size: 5 alpha: 0.0001 beta: 0.75"

    def reduced(number, bottom):
        steps = [
            ("norm", lambda name, x: lrn(name, x, across)),
            ("pool", lambda name, x: pool(name, x, 3, 2)),
        ]
        text = ""
        for kind, step in steps if norm_first else steps[::-1]:
            text += step(f"{kind}{number}", bottom)
            bottom = f"{kind}{number}"
        return text, bottom

    text = labelled(batch, 3, 227, 227) + conv("conv1", "data", 24, 11, "stride: 4") + relu("conv1")
    more, bottom = reduced(1, "conv1")
    text += more + conv("conv2", bottom, 64, 5, "pad: 2 group: 2") + relu("conv2")
    more, bottom = reduced(2, "conv2")
    text += more + conv("conv3", bottom, 96, 3, "pad: 1") + relu("conv3")
    text += conv("conv4", "conv3", 96, 3, "pad: 1 group: 2") + relu("conv4")
    text += conv("conv5", "conv4", 64, 3, "pad: 1 group: 2") + relu("conv5")
    text += pool("pool5", "conv5", 3, 2)
    text += dense("fc6", "pool5", 128) + relu("fc6") + dropout("fc6")
    text += dense("fc7", "fc6", 128) + relu("fc7") + dropout("fc7")
    return text + dense("fc8", "fc7", 100) + losses("fc8")


def caffenet(batch=2):
    return alexnet(batch, norm_first=False)


def inception(name, bottom, ones, threes_in, threes, fives_in, fives, pooled):
    def branch(part, source, num_output, kernel, options=""):
        return conv(f"{name}_{part}", source, num_output, kernel, options) + relu(f"{name}_{part}")

    text = branch("1x1", bottom, ones, 1) + branch("3x3_in", bottom, threes_in, 1)
    text += branch("3x3", f"{name}_3x3_in", threes, 3, "pad: 1")
    text += branch("5x5_in", bottom, fives_in, 1) + branch(
        "5x5", f"{name}_5x5_in", fives, 5, "pad: 2"
    )
    text += pool(f"{name}_pool", bottom, 3, 1, "pad: 1")
    text += branch("pooled", f"{name}_pool", pooled, 1)
    parts = " ".join(f"{name}_{part}" for part in ("1x1", "3x3", "5x5", "pooled"))
    return text + layer(name, "Concat", parts)


def googlenet(batch=2):
    """A quarter as wide, with the two losses in the middle."""
    across = "local_size: 5 alpha: 0.0001 beta: 0.75"

    def side(number, bottom):
        name = f"side{number}"
        text = pool(f"{name}_pool", bottom, 5, 3, "pool: AVE")
        text += conv(f"{name}_conv", f"{name}_pool", 32, 1) + relu(f"{name}_conv")
        text += dense(f"{name}_fc", f"{name}_conv", 64) + relu(f"{name}_fc") + dropout(f"{name}_fc")
        text += dense(f"{name}_classes", f"{name}_fc", 100)
        return text + losses(f"{name}_classes", str(number), "loss_weight: 0.3")

    text = labelled(batch, 3, 224, 224)
    text += conv("conv1", "data", 16, 7, "pad: 3 stride: 2") + relu("conv1")
    text += pool("pool1", "conv1", 3, 2) + lrn("norm1", "pool1", across)
    text += conv("conv2_in", "norm1", 16, 1) + relu("conv2_in")
    text += (
        conv("conv2", "conv2_in", 48, 3, "pad: 1") + relu("conv2") + lrn("norm2", "conv2", across)
    )
    text += pool("pool2", "norm2", 3, 2)
    text += inception("3a", "pool2", 16, 24, 32, 4, 8, 8) + inception(
        "3b", "3a", 32, 32, 48, 8, 24, 16
    )
    text += pool("pool3", "3b", 3, 2) + inception("4a", "pool3", 48, 24, 52, 4, 12, 16)
    text += side(1, "4a") + inception("4b", "4a", 40, 28, 56, 6, 16, 16)
    text += inception("4c", "4b", 32, 32, 64, 6, 16, 16) + inception(
        "4d", "4c", 28, 36, 72, 8, 16, 16
    )
    text += side(2, "4d") + inception("4e", "4d", 64, 40, 80, 8, 32, 32)
    text += pool("pool4", "4e", 3, 2) + inception("5a", "pool4", 64, 40, 80, 8, 32, 32)
    text += inception("5b", "5a", 96, 48, 96, 12, 32, 32) + pool("pool5", "5b", 7, 1, "pool: AVE")
    return text + dropout("pool5") + dense("classes", "pool5", 100) + losses("classes")


def siamese(batch=4):
    """Two LeNets that share all blobs."""

    def shared(name):
        return f'param {{ name: "{name}_w" lr_mult: 1 }} param {{ name: "{name}_b" lr_mult: 2 }}'

    def half(bottom, end):
        text = conv(f"conv1{end}", bottom, 20, 5, rest=shared("conv1"))
        text += pool(f"pool1{end}", f"conv1{end}", 2, 2)
        text += conv(f"conv2{end}", f"pool1{end}", 50, 5, rest=shared("conv2"))
        text += pool(f"pool2{end}", f"conv2{end}", 2, 2)
        text += dense(f"ip1{end}", f"pool2{end}", 500, rest=shared("ip1")) + relu(f"ip1{end}")
        text += dense(f"ip2{end}", f"ip1{end}", 10, rest=shared("ip2"))
        return text + dense(f"feat{end}", f"ip2{end}", 2, rest=shared("feat"))

    text = data("pair_data", batch, 2, 28, 28) + data("label", batch)
    text += (
        'layer { name: "slice_pair" type: "Slice" bottom: "pair_data" top: "data" top: "data_p" }\n'
    )
    text += half("data", "") + half("data_p", "_p")
    return text + layer("loss", "ContrastiveLoss", "feat feat_p label")


def autoencoder(batch=4):
    text = data("data", batch, 1, 28, 28) + layer("flatdata", "Flatten", "data")
    bottom = "flatdata"
    sizes = {"encode1": 1000, "encode2": 500, "encode3": 250, "encode4": 30}
    sizes |= {"decode4": 250, "decode3": 500, "decode2": 1000}
    for name, size in sizes.items():
        text += dense(name, bottom, size)
        bottom = name
        if name != "encode4":
            text += layer(f"{name}neuron", "Sigmoid", name)
            bottom = f"{name}neuron"
    text += dense("decode1", bottom, 784)
    text += layer(
        "cross_entropy", "SigmoidCrossEntropyLoss", "decode1 flatdata", rest="loss_weight: 1"
    )
    text += layer("decode1neuron", "Sigmoid", "decode1")
    return text + layer("error", "EuclideanLoss", "decode1neuron flatdata", rest="loss_weight: 0")


NETS = {
    net.__name__: net
    for net in (
        alexnet,
        autoencoder,
        caffenet,
        cifar10_full,
        cifar10_quick,
        googlenet,
        lenet,
        siamese,
    )
}
