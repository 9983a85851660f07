"""Split the convolutions of Caffe nets by what their training reveals."""
