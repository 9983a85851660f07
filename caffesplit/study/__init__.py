"""Chains and controlled comparisons of training jobs."""
