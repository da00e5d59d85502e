"""Benchmarks, on the results of make run."""

import ml  # noqa: F401 - configures Keras, so it comes before it
