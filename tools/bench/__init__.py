"""Benchmarks: `python -m tools.bench [tpm] [memory] [splice] [startup]`."""
