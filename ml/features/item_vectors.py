"""Vectors of items, learned from users' histories alone, for the first weights of an embedding."""

import numpy as np

from ml.errors import DataError
from ml.features.histories import Histories

_WINDOW, _NEGATIVES, _EPOCHS = 10, 10, 10


def word2vec(histories: Histories, items: int, width: int, seed: int) -> np.ndarray:
    """Learn vectors by Word2Vec, with users' histories as sentences and items as words.

    Skip-gram with negative sampling (Mikolov et al., NIPS 2013), on items as in Item2Vec (Barkan and Koenigstein, MLSP
    2016). One thread, so that the seed decides the result.

    Args:
        histories: of all users.
        items: number of items.
        width: of a vector.
        seed: of first vectors and samples.

    Returns:
        float32 [items, width], of standard deviation 1; zeros for an item without ratings.

    Raises:
        DataError: gensim is not installed.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise DataError(
            "pretrained: word2vec needs gensim, which is not installed; pip install 'movie-recommender[pretrained]'"
        ) from error
    sentences = [[str(item) for item in histories.user(user)] for user in range(len(histories.lengths))]
    model = Word2Vec(
        sentences,
        vector_size=width,
        window=_WINDOW,
        min_count=1,
        sg=1,
        negative=_NEGATIVES,
        epochs=_EPOCHS,
        seed=seed,
        workers=1,
        hashfxn=int,  # Python's own depends on the process
    )
    vectors = np.zeros((items, width), np.float32)
    known = np.array([int(word) for word in model.wv.index_to_key])
    vectors[known] = model.wv.vectors / model.wv.vectors.std()
    return vectors
