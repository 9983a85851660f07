"""Data sets, ready for Caffe's data layers."""
