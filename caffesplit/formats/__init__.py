"""Files to values and back: prototxt, caffemodel, solverstate, logs, databases."""
