"""What `engines.pycaffe` has another Python do: the one that has pycaffe, 2.7 or any newer.

It reads a request per line of standard input, and answers each with a line of standard output,
in JSON. Arrays go through files. So it knows nothing of caffesplit, and no newer Python than 2.7's.
"""

import json
import os
import sys

import caffe  # type: ignore[import-not-found]
import numpy as np


class Worker(object):  # noqa: UP004
    """A net that is run forward layer after layer, each as soon as its weights are settled."""

    def open(self, net, weights, level, stages, seed, initial):
        """Set up the net in TRAIN, with the fillers' values or weights; write them to `initial`."""
        caffe.set_mode_cpu()
        caffe.set_random_seed(seed)
        # str: Caffe takes no unicode objects from Python 2's json.
        self.net = caffe.Net(str(net), caffe.TRAIN, level, [str(stage) for stage in stages])
        if weights is not None:
            self.net.copy_from(str(weights))
        self.net.save(str(initial))
        self.names = list(self.net._layer_names)
        self.done = 0

    def measure(self, layer, weights):
        """The variance of what a layer puts out with these weights, in all its tops together.

        The layers before it have run once. What works in place on its top has not run yet.
        """
        index = self.names.index(layer)
        if self.done < index:
            self.net._forward(self.done, index - 1)
        self.net.params[layer][0].data[...] = np.load(weights)
        self.net._forward(index, index)
        self.done = index + 1
        tops = [self.net.blobs[top].data.ravel() for top in self.net.top_names[layer]]
        values = np.concatenate(tops)
        with np.errstate(all="ignore"):
            return float(values.var(dtype=np.float64))


def main():
    # Whatever else prints, it must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
