"""How much of the machine a training takes."""

import keras
from threadpoolctl import threadpool_limits

from ml.processors import available_processors


def share_processors(trainings: int) -> None:
    """Leave processors to other trainings that run at the same time, each in a process of its own.

    A row's matrices are too small for threads to share them well: two trainings of one thread each get further than
    one of two threads after the other. So it is with the matrix products and decompositions that signals are made of,
    whose threads busily wait for each other when something else takes their processor. NumPy's libraries are told, and
    TensorFlow before its first operation; other backends are not.

    Args:
        trainings: that share this machine.
    """
    threads = max(1, available_processors() // trainings)
    threadpool_limits(threads, "blas")
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # it has started, as in a process that trains its second model
        return
