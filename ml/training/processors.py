"""How much of the machine a training takes."""

import keras

from ml.processors import available_processors


def share_processors(trainings: int) -> None:
    """Leave processors to other trainings that run at the same time, each in a process of its own.

    A row's matrices are too small for threads to share them well: two trainings of one thread each get further than
    one of two threads after the other. Only TensorFlow is told, and only before its first operation; otherwise nothing
    changes.

    Args:
        trainings: that share this machine.
    """
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf  # noqa: PLC0415

    threads = max(1, available_processors() // trainings)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # it has started, as in a process that trains its second model
        return
