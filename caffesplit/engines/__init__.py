"""Running training jobs."""
