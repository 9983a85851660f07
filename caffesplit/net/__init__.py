"""The network in memory: layers, blobs, phases, checks. Pure."""
