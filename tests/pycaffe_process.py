"""A process that sets up nets in the real Caffe, and outlives those that Caffe refuses."""

import json
import subprocess

# One process for all nets; Caffe ends a child where it refuses one.
SERVER = """
import json, os, resource, sys, tempfile
os.environ["GLOG_minloglevel"] = "4"
import caffe
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
folder = tempfile.mkdtemp()
for line in sys.stdin:
    text, phase = json.loads(line)
    path = os.path.join(folder, "net.prototxt")
    with open(path, "w") as file:
        file.write(text)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        net = caffe.Net(path, caffe.TRAIN if phase == "TRAIN" else caffe.TEST)
        blobs = {name: list(blob.shape) for name, blob in net.blobs.items()}
        learned = [[list(blob.shape) for blob in layer.blobs] for layer in net.layers]
        net.forward()
        with os.fdopen(writer, "w") as pipe:
            json.dump([blobs, learned[-1]], pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    print(answer or "null", flush=True)
"""


class Pycaffe:
    """The real Caffe's answer to net after net."""

    def __init__(self, python):
        command = [python, "-c", SERVER]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, text, phase="TEST"):
        """Blob name → shape, and the shapes of the last layer's learned blobs.

        None for a net that Caffe does not set up, or in which it does not run forward.
        """
        self.process.stdin.write(json.dumps([text, phase]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if answer is None:
            return None
        blobs, learned = answer
        blobs = {name: tuple(shape) for name, shape in blobs.items() if "_split_" not in name}
        return blobs, [tuple(shape) for shape in learned]

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
