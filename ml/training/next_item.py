"""Train SASRec for others: for the score of the next item as a collaborative feature, and for first item vectors."""

from threading import Lock

import keras
import numpy as np

from ml.features.histories import Histories
from ml.features.next_item import NextItemConfig
from ml.models.config import SASRecConfig
from ml.models.sequence import NextItemModel
from ml.training.config import TrainingConfig
from ml.training.history_trainer import states_of, train_on_histories

_LEAST_SHARE = 1e-9  # one rating of each user is not learned from: it measures the loss
_ONE_AT_A_TIME = Lock()  # collaborative features are fitted in threads, and Keras has one seed for all of them


def learn_next_items(
    histories: Histories, given: Histories, items: int, config: NextItemConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Train a SASRec on histories.

    Args:
        histories: of all users, to learn from.
        given: of all users, to predict the next item of.
        items: number of items.
        config: the settings.

    Returns:
        The state after each user's last given item, float32 [users, width], and the items' vectors, float32 [items,
        width]. A user without given items has the mean of the states after all histories to learn from.

    Raises:
        DataError: no user has enough ratings.
    """
    settings = config.model_dump()
    model_config = SASRecConfig(**{name: settings[name] for name in SASRecConfig.model_fields})
    training = TrainingConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        schedule="cosine",
        reshuffle=True,
        validation_share=_LEAST_SHARE,
        seed=config.seed,
    )
    with _ONE_AT_A_TIME:
        model = NextItemModel(items, model_config, config.seed)
        train_on_histories(model, histories, training)
        vectors = keras.ops.convert_to_numpy(model.vectors)
        unknown = states_of(model, histories).mean(axis=0)
        states = states_of(model, given) if len(given.items) else np.zeros((len(given.lengths), len(unknown)))
    states[given.lengths == 0] = unknown
    return states.astype(np.float32), vectors


def sasrec_vectors(histories: Histories, items: int, width: int, seed: int) -> np.ndarray:
    """Learn vectors by a SASRec, cut to ``width`` by a singular value decomposition.

    Args:
        histories: of all users.
        items: number of items.
        width: of a vector.
        seed: of the training.

    Returns:
        float32 [items, width], of standard deviation 1; zeros for an item without ratings.

    Raises:
        DataError: no user has enough ratings.
    """
    config = NextItemConfig(seed=seed)
    config = config.model_copy(update={"embed_dim": max(width, config.embed_dim)})
    _, vectors = learn_next_items(histories, histories, items, config)
    known = np.unique(histories.items)
    left, values, _ = np.linalg.svd(vectors[known], full_matrices=False)
    cut = (left * values)[:, :width]
    found = np.zeros((items, width), np.float32)
    found[known, : cut.shape[1]] = cut / cut.std()
    return found
