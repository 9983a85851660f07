"""Kernels over time: path, displacement, TPM, entropy, norms. Pure."""
