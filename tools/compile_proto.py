#!/usr/bin/env python3
"""Compile proto/caffe.proto into the descriptors that caffesplit ships. Needs the dev extra."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto" / "caffe.proto"
DESCRIPTORS = ROOT / "caffesplit" / "formats" / "caffe.desc"


def compiled() -> bytes:
    """The FileDescriptorSet of proto/caffe.proto, serialized."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "caffe.desc"
        arguments = [f"--proto_path={PROTO.parent}", f"--descriptor_set_out={output}", PROTO.name]
        if protoc.main(["protoc", *arguments]) != 0:
            sys.exit(f"{PROTO} does not compile")
        return output.read_bytes()


if __name__ == "__main__":
    DESCRIPTORS.write_bytes(compiled())
    print(f"wrote {DESCRIPTORS}")
