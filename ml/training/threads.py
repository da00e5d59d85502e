"""Limit the processors that a training uses."""

import keras
from threadpoolctl import threadpool_limits

from ml.processors import available_processors


def share_processors(trainings: int) -> None:
    """Divide the processors among trainings that run at the same time, each in its own process.

    A row's matrices are too small for several threads: two trainings with one thread each finish earlier than two in
    sequence with two threads. The same holds for the linear algebra of collaborative features, whose threads spin while
    another process uses their processor. This limits NumPy's libraries, and TensorFlow before its first operation;
    other backends are not limited.

    Args:
        trainings: how many share this machine.
    """
    threads = max(1, available_processors() // trainings)
    threadpool_limits(threads, "blas")
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has started, as in a process that trains its second model
        return
