"""SASRec: self-attention over a user's history predicts the next item.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, with the softmax over all items as loss
(Klenitskiy and Vasilev, "Turning Dross Into Gold Loss", RecSys 2023) instead of one sampled negative.

A history is a row of tokens, int32 [length], that is padded on the left: 0 is padding, and item i is the token i + 1.
The layers are not registered for loading: a served network holds states and item vectors only.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ml.features.next_item import next_item_columns
from ml.models.autoint import LOGIT_LAYER
from ml.models.config import SASRecConfig
from ml.models.layers import ConfiguredLayer, derive_seeds
from ml.models.numerical import PairProducts, SelectFields

PADDING = 0
_STDDEV = 0.02  # of the first embeddings, as in BERT4Rec


class HistoryEmbedding(ConfiguredLayer):
    """Embed histories: ``output[b, t] = sqrt(width) * items[tokens[b, t] - 1] + positions[length - T + t]``.

    The last token of every history has the last position, however short the rows are. Padding has the embedding 0.
    Section III.A of Kang and McAuley, ICDM 2018.

    Args:
        items: number of items.
        length: most tokens of a history.
        width: of an embedding.
        seed: of the normal initial values (sd 0.02).

    Input:  [batch, T], tokens; T is at most ``length``.
    Output: [batch, T, width].

    Example:
        >>> HistoryEmbedding(items=3, length=4, width=8)(np.array([[0, 3, 1]])).shape
        TensorShape([1, 3, 8])
    """

    def __init__(self, items: int, length: int, width: int = 64, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min(items, length, width) < 1:
            raise ValueError(f"items, length and width must be positive, got {items}, {length} and {width}")
        self.items = items
        self.length = length
        self.width = width
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        if len(input_shape) != 2 or (input_shape[1] or 0) > self.length:
            raise ValueError(f"expected tokens [batch, at most {self.length}], got input shape {tuple(input_shape)!r}")
        item_seed, position_seed = derive_seeds(self.seed, 2)
        self.table = self._weight("items", self.items, item_seed)  # [items, width]
        self.positions = self._weight("positions", self.length, position_seed)  # [length, width]

    def _weight(self, name: str, rows: int, seed: int | None) -> Any:
        initializer = keras.initializers.RandomNormal(stddev=_STDDEV, seed=seed)
        return self.add_weight(name=name, shape=(rows, self.width), initializer=initializer)

    def call(self, tokens: Any) -> Any:
        items = ops.take(self.table, ops.maximum(tokens - 1, 0), axis=0) * self.width**0.5
        known = ops.cast(ops.not_equal(tokens, PADDING), items.dtype)
        return (items + self.positions[-ops.shape(tokens)[1] :]) * known[:, :, None]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape, self.width)


class CausalBlock(ConfiguredLayer):
    """Self-attention over the present and the past, and two dense layers, both with residual connections.

    ``y = x + dropout(attention(norm(x)))``, ``output = y + dropout(dense(dropout(relu(dense(norm(y))))))``. Position t
    attends to positions up to t that are no padding. Sections III.B and III.C of Kang and McAuley, ICDM 2018, with the
    normalization before both parts.

    Args:
        num_heads: number of attention heads; divides the input's width.
        dropout: share that is dropped during training, of attention weights, hidden values and outputs.
        seed: of the Glorot-uniform initial values and the dropout.

    Input:  [batch, T, width], and tokens [batch, T].
    Output: [batch, T, width].

    Example:
        >>> CausalBlock(num_heads=2)(np.zeros((1, 3, 8)), np.array([[0, 3, 1]])).shape
        TensorShape([1, 3, 8])
    """

    def __init__(self, num_heads: int = 1, dropout: float = 0.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_heads < 1 or not 0 <= dropout < 1:
            raise ValueError(f"expected num_heads from 1 and dropout in [0, 1), got {num_heads} and {dropout}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        width = input_shape[-1]
        if len(input_shape) != 3 or not width or width % self.num_heads:
            raise ValueError(
                f"expected [batch, T, a multiple of {self.num_heads} heads], got input shape {tuple(input_shape)!r}"
            )
        attention_seed, *dense_seeds = derive_seeds(self.seed, 6)
        initializers = [keras.initializers.GlorotUniform(seed=seed) for seed in dense_seeds[:2]]
        drops = [keras.layers.Dropout(self.dropout, seed=seed) for seed in dense_seeds[2:]]
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads,
            width // self.num_heads,
            dropout=self.dropout,
            kernel_initializer=keras.initializers.GlorotUniform(seed=attention_seed),
            seed=attention_seed,
            name="attention",
        )
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{number}") for number in (1, 2)]
        self.dense = [
            keras.layers.Dense(width, activation, kernel_initializer=initializer, name=f"dense_{number}")
            for number, (activation, initializer) in enumerate(zip(("relu", None), initializers, strict=True), start=1)
        ]
        self.drops = drops
        self.attention.build(input_shape, input_shape)
        for layer in (*self.norms, *self.dense):
            layer.build(input_shape)

    def call(self, inputs: Any, tokens: Any, training: bool | None = None) -> Any:
        after_attention, inside, after_dense = self.drops
        known = ops.not_equal(tokens, PADDING)[:, None, :]  # for every query
        normal = self.norms[0](inputs)
        attended = self.attention(normal, normal, attention_mask=known, use_causal_mask=True, training=training)
        hidden = inputs + after_attention(attended, training=training)
        first, second = self.dense
        deep = second(inside(first(self.norms[1](hidden)), training=training))
        return hidden + after_dense(deep, training=training)

    def compute_output_shape(self, input_shape: Sequence[int | None], *others: Any) -> tuple[int | None, ...]:
        return tuple(input_shape)


class NextItemModel(keras.Model):
    """A network of histories that learns to predict the next item; ``fit`` it on tokens and next items.

    The loss of a position is ``-log softmax(states @ items.T)[next item]``; the total is their weighted mean. With
    ``negatives``, the softmax is over the next item and that many items that are sampled for the whole batch, whose
    terms are multiplied by ``items / negatives``, so that their sum estimates that over all items.

    Args:
        items: number of items.
        config: the settings.
        seed: of all first weights, dropout and sampling.

    Input:  [batch, T], tokens.
    Output: [batch, T, width], the state after each token.
    """

    def __init__(self, items: int, config: SASRecConfig, seed: int) -> None:
        super().__init__(name="sasrec_histories")
        self._items, self._negatives = items, config.negatives
        embedding_seed, dropout_seed, sampling_seed, *block_seeds = derive_seeds(seed, 3 + config.num_layers)
        self.embedding = HistoryEmbedding(items, config.length, config.embed_dim, embedding_seed, name="embedding")
        self.dropout = keras.layers.Dropout(config.dropout, seed=dropout_seed, name="dropout")
        self.blocks = [
            CausalBlock(config.num_heads, config.dropout, block_seed, name=f"block_{number}")
            for number, block_seed in enumerate(block_seeds, start=1)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")
        self.sampling = keras.random.SeedGenerator(sampling_seed)
        self(np.ones((1, 2), np.int32))  # builds it

    @property
    def vectors(self) -> Any:
        """The items' vectors, [items, width]; the inner product with a state is an item's log-odds but for a shift."""
        return self.embedding.table

    def call(self, tokens: Any, training: bool | None = None) -> Any:
        hidden = self.dropout(self.embedding(tokens), training=training)
        for block in self.blocks:
            hidden = block(hidden, tokens, training=training)
        return self.norm(hidden)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the loss.

        Args:
            x: not used.
            y: next items of the last S states, int32 [batch, S].
            y_pred: states, [batch, T, width].
            sample_weight: float32 [batch, S]; 0 where there is no next item.
            training: whether to sample, if the settings say so.
        """
        states = ops.reshape(y_pred[:, -ops.shape(y)[1] :], (-1, self.embedding.width))  # [n, width]
        next_items, weights = ops.reshape(y, (-1,)), ops.reshape(sample_weight, (-1,))
        sampled = training and bool(self._negatives)
        losses = self._sampled_losses(states, next_items) if sampled else self._full_losses(states, next_items)
        return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1)

    def _full_losses(self, states: Any, next_items: Any) -> Any:
        scores = ops.matmul(states, ops.transpose(self.vectors))  # [n, items]
        return keras.losses.sparse_categorical_crossentropy(next_items, scores, from_logits=True)

    def _sampled_losses(self, states: Any, next_items: Any) -> Any:
        drawn = keras.random.randint((self._negatives,), 0, self._items, seed=self.sampling)
        own = ops.sum(states * ops.take(self.vectors, next_items, axis=0), axis=1, keepdims=True)  # [n, 1]
        others = ops.matmul(states, ops.transpose(ops.take(self.vectors, drawn, axis=0)))  # [n, negatives]
        others = others + float(np.log(self._items / self._negatives))
        others = ops.where(ops.equal(drawn[None, :], next_items[:, None]), -1e9, others)  # the next item is no negative
        return ops.logsumexp(ops.concatenate([own, others], axis=1), axis=1) - own[:, 0]


def serving_network(states: np.ndarray, vectors: Any, positions: tuple[int, int], features: int) -> keras.Model:
    """Return a network from indices to probabilities, with the users' states and the items' vectors inside it.

    The log-odds of a pair are ``log(items * softmax(states @ vectors.T)[item])``: the probability is that the item is
    the user's next one, rather than one that is drawn from all with equal probability.

    Args:
        states: float32 [users, width].
        vectors: [items, width].
        positions: of the user's and the item's index in a row.
        features: number of indices in a row.
    """
    left, right = next_item_columns(states, ops.convert_to_numpy(vectors))
    indices = keras.Input((features,), dtype="int32", name="codes")
    pair = SelectFields(positions, name="fields")(indices)
    products = PairProducts((0, 1), (len(left), len(right)), [left.shape[1]], name=LOGIT_LAYER)
    probability = keras.layers.Activation("sigmoid", name="probability")(products(pair))
    network = keras.Model(indices, probability, name="sasrec")
    products.left.assign(left)
    products.right.assign(right)
    return network
