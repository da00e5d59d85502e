"""What things cost, on the results of make run."""

import ml  # noqa: F401 - before Keras, which it sets up
