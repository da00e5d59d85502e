"""Compiled loops of a training step: the loss of AutoInt's interacting layers, and its gradients.

Rows are processed in tiles of ``LANES``. The loss of a tile follows its logits at once, so that the backward pass finds
what the forward pass computed in the processor's cache; keeping it for a whole batch takes 40 % longer.

Shapes: F fields, E columns of a token, H heads of D columns, W = H D, L lanes. Arrays of a tile are [columns, F, L].
Kernels are those of queries, keys, values and residuals, in P parts, side by side in each, [P, inputs, 4 W / P]. Their
gradients are [4, W, inputs], by products with transposed inputs, since BLAS would take longer to transpose. Softmax is
to base 2: the queries' kernels include the factor log2 e.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from ml.compiled.loops import LANES, WITH_NANS, compile_loop, exp2
from ml.compiled.products import multiply, transpose

PROJECTIONS = 4  # queries, keys, values, residuals
_LN2 = np.float32(np.log(2))
_compile = partial(compile_loop, flags=WITH_NANS)  # so that the loss of a training that diverges is NaN


@_compile
def _load(rows: np.ndarray, start: int, tokens: np.ndarray, fields: int, columns: int) -> None:
    """``tokens[f, b] = rows[start + b, f]`` of rows [B, F, E]; tokens [F L, E]; lanes past B repeat the last row."""
    for b in range(LANES):
        row = min(start + b, len(rows) - 1)
        for f in range(fields):
            for c in range(columns):
                tokens[f * LANES + b, c] = rows[row, f, c]


@_compile
def _store(tokens: np.ndarray, start: int, rows: np.ndarray, fields: int, columns: int) -> None:
    """The inverse of ``_load``, without the lanes past B."""
    for b in range(min(LANES, len(rows) - start)):
        for f in range(fields):
            for c in range(columns):
                rows[start + b, f, c] = tokens[f * LANES + b, c]


@_compile
def _softmax(scores: np.ndarray, fields: int) -> None:
    """Scores [F, F, L], flat, to ``2^score / sum over the second field of 2^score`` in place.

    In loops that are short enough for LLVM to unroll those over the fields, else it would not vectorize over the lanes.
    """
    line = fields * LANES
    for first in range(0, fields * line, line):
        for b in range(first, first + LANES):
            highest = scores[b]
            for j in range(LANES, line, LANES):
                highest = max(highest, scores[b + j])
            for j in range(0, line, LANES):
                scores[b + j] -= highest
    for i in range(fields * line):
        scores[i] = exp2(scores[i])
    for first in range(0, fields * line, line):
        for b in range(first, first + LANES):
            total = np.float32(0)
            for j in range(0, line, LANES):
                total += scores[b + j]
            inverse = np.float32(1) / total
            for j in range(0, line, LANES):
                scores[b + j] *= inverse


@_compile
def _softmax_gradient(weights: np.ndarray, gradients: np.ndarray, fields: int) -> None:
    """Gradients of the weights, [F, F, L], flat, to those of the scores in place."""
    line = fields * LANES
    for first in range(0, fields * line, line):
        for b in range(first, first + LANES):
            mean = np.float32(0)
            for j in range(0, line, LANES):
                mean += weights[b + j] * gradients[b + j]
            for j in range(0, line, LANES):
                gradients[b + j] -= mean
    for i in range(fields * line):
        gradients[i] *= _LN2 * weights[i]


@_compile
def _activate(sums: np.ndarray, residuals: np.ndarray) -> None:
    """``sums = ReLU(sums + residuals)``; NaN stays NaN."""
    for i in range(len(sums)):
        total = sums[i] + residuals[i]
        sums[i] = np.float32(0) if total < 0 else total


@_compile
def _activation_gradient(outputs: np.ndarray, gradients: np.ndarray, out: np.ndarray) -> None:
    """Set ``out`` to the gradients of a ReLU's inputs from its outputs and their gradients."""
    for i in range(len(outputs)):
        out[i] = gradients[i] if outputs[i] > 0 else np.float32(0)


@_compile
def _loss(
    hidden: np.ndarray,
    output: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray,
    start: int,
    gradients: np.ndarray,
    fields: int,
) -> float:
    """Return the sum of a tile's cross-entropies.

    Args:
        hidden: of the last layer [W F L], flat.
        output: weights of the logit [F, W].
        labels: of the batch [B].
        others: logits to add [B].
        start: the tile's first row.
        gradients: of the mean loss by the logits [B], to be set.
        fields: F.
    """
    logits = np.zeros(LANES, np.float32)
    for c in range(output.shape[1]):
        for b in range(LANES):
            total = np.float32(0)
            for f in range(fields):
                total += output[f, c] * hidden[(c * fields + f) * LANES + b]
            logits[b] += total
    loss = 0.0
    for b in range(min(LANES, len(labels) - start)):
        logit, label = logits[b] + others[start + b], labels[start + b]
        small = np.exp(-abs(logit))
        loss += max(logit, np.float32(0)) - logit * label + np.log1p(small)
        probability = (np.float32(1) if logit >= 0 else small) / (np.float32(1) + small)
        gradients[start + b] = (probability - label) / np.float32(len(labels))
    return loss


@_compile
def _loss_gradient(
    hidden: np.ndarray,
    output: np.ndarray,
    logit_gradients: np.ndarray,
    sums: np.ndarray,
    out: np.ndarray,
    fields: int,
) -> None:
    """Set ``out`` to the gradients of the last layer's hidden state, and add those of ``output`` to ``sums``.

    Args:
        hidden: [W F L], flat, as ``sums`` and ``out``.
        output: [F, W].
        logit_gradients: of the tile's rows, at most L.
        sums: to add to; the sum over the lanes is the gradient.
        out: to be set.
        fields: F.
    """
    lanes = np.zeros(LANES, np.float32)
    lanes[: len(logit_gradients)] = logit_gradients
    for c in range(output.shape[1]):
        for b in range(LANES):
            for f in range(fields):
                at = (c * fields + f) * LANES + b
                sums[at] += lanes[b] * hidden[at]
                out[at] = lanes[b] * output[f, c]


@_compile
def _project(kernel: np.ndarray, inputs: np.ndarray, projected: np.ndarray) -> None:
    """Set projections [4 W, F L] of inputs [inputs, F L]."""
    size = kernel.shape[2]
    for i in range(len(kernel)):
        np.dot(kernel[i].T, inputs, projected[i * size : (i + 1) * size])


@_compile
def _input_gradient(kernel: np.ndarray, projected: np.ndarray, share: np.ndarray, out: np.ndarray) -> None:
    """Set the gradients of inputs from those of their projections [4 W, F L]; ``share`` is work space like ``out``."""
    size = kernel.shape[2]
    np.dot(kernel[0], projected[:size], out)
    for i in range(1, len(kernel)):
        np.dot(kernel[i], projected[i * size : (i + 1) * size], share)
        out += share


@_compile
def _add_kernel_gradients(
    parts: int, projected: np.ndarray, inputs: np.ndarray, share: np.ndarray, gradients: np.ndarray
) -> None:
    """Add those of a tile: projections' gradients [4 W, F L], inputs [F L, inputs], work space like the gradients."""
    size = len(projected) // parts
    for i in range(parts):
        part = slice(i * size, (i + 1) * size)
        np.dot(projected[part], inputs, share[part])
    gradients += share


@_compile
def _add_lanes(sums: np.ndarray, gradients: np.ndarray) -> None:
    """Add the lanes of sums [W F L], flat, to gradients of the output weights [F, W]."""
    fields, width = gradients.shape
    for c in range(width):
        for f in range(fields):
            for b in range(LANES):
                gradients[f, c] += sums[(c * fields + f) * LANES + b]


@cache
def training_step(fields: int, embed_dim: int, heads: int, head_dim: int) -> Callable[..., float]:
    """Make the loop over a batch's tiles.

    Returns:
        A function of tokens [B, F, E], labels [B], logits to add [B], the kernels of the first layer [P, E, 4 W / P]
        and of the further ones [layers - 1, P, W, 4 W / P], and the output weights [F, W], all float32. It returns the
        mean binary cross-entropy and sets the gradients of it: of the tokens, of the logits, and of the kernels and
        output weights, which must be zeros before, [4, W, E], [layers - 1, 4, W, W] and [F, W]. Its last argument is
        whether to do so; if not, the gradients are undefined.
    """
    line, block, width = fields * LANES, head_dim * fields * LANES, heads * head_dim

    @_compile
    def step(
        tokens: np.ndarray,
        labels: np.ndarray,
        others: np.ndarray,
        first: np.ndarray,
        further: np.ndarray,
        output: np.ndarray,
        token_gradients: np.ndarray,
        logit_gradients: np.ndarray,
        first_gradients: np.ndarray,
        further_gradients: np.ndarray,
        output_gradients: np.ndarray,
        learn: bool,
    ) -> float:
        rows, layers = len(tokens), 1 + len(further)
        embedded_rows, hidden_rows = np.empty((line, embed_dim), np.float32), np.empty((line, width), np.float32)
        embedded, d_embedded = np.empty((embed_dim, line), np.float32), np.empty((embed_dim, line), np.float32)
        hidden, d_hidden = np.empty((layers, width, line), np.float32), np.empty((width, line), np.float32)
        projected = np.empty((layers, PROJECTIONS, heads, block), np.float32)
        d_projected = np.empty((PROJECTIONS, heads, block), np.float32)
        attention, d_scores = np.empty((layers, heads, fields * line), np.float32), np.empty(fields * line, np.float32)
        first_share = np.empty((PROJECTIONS * width, embed_dim), np.float32)
        further_share = np.empty((PROJECTIONS * width, width), np.float32)
        embedded_share, hidden_share = np.empty((embed_dim, line), np.float32), np.empty((width, line), np.float32)
        total, output_sums = 0.0, np.zeros(width * line, np.float32)
        for start in range(0, rows, LANES):
            _load(tokens, start, embedded_rows, fields, embed_dim)
            transpose(embedded_rows.reshape(-1), embedded.reshape(-1), line, embed_dim)
            for layer in range(layers):
                inputs, kernel = (hidden[layer - 1], further[layer - 1]) if layer else (embedded, first)
                _project(kernel, inputs, projected[layer].reshape(-1, line))
                for head in range(heads):
                    query, key, value = projected[layer, 0, head], projected[layer, 1, head], projected[layer, 2, head]
                    weights, result = attention[layer, head], hidden[layer].reshape(heads, block)[head]
                    multiply(query, LANES, line, key, LANES, line, weights, line, LANES, fields, fields, head_dim)
                    _softmax(weights, fields)
                    multiply(value, line, LANES, weights, line, LANES, result, line, LANES, head_dim, fields, fields)
                    _activate(result, projected[layer, 3, head])
            last, end = hidden[layers - 1].reshape(-1), min(start + LANES, rows)
            total += _loss(last, output, labels, others, start, logit_gradients, fields)
            if not learn:
                continue
            _loss_gradient(last, output, logit_gradients[start:end], output_sums, d_hidden.reshape(-1), fields)
            for layer in range(layers - 1, -1, -1):
                for head in range(heads):
                    query, key, value = projected[layer, 0, head], projected[layer, 1, head], projected[layer, 2, head]
                    weights, result = attention[layer, head], hidden[layer].reshape(heads, block)[head]
                    d_query, d_key, d_value, d_result = (
                        d_projected[0, head],
                        d_projected[1, head],
                        d_projected[2, head],
                        d_projected[3, head],  # the result is a sum, so that the residuals have the same gradient
                    )
                    _activation_gradient(result, d_hidden.reshape(heads, block)[head], d_result)
                    multiply(
                        d_result, line, LANES, weights, LANES, line, d_value, line, LANES, head_dim, fields, fields
                    )
                    multiply(d_result, LANES, line, value, LANES, line, d_scores, line, LANES, fields, fields, head_dim)
                    _softmax_gradient(weights, d_scores, fields)
                    multiply(key, line, LANES, d_scores, line, LANES, d_query, line, LANES, head_dim, fields, fields)
                    multiply(query, line, LANES, d_scores, LANES, line, d_key, line, LANES, head_dim, fields, fields)
                joined = d_projected.reshape(-1, line)
                if layer:
                    transpose(hidden[layer - 1].reshape(-1), hidden_rows.reshape(-1), width, line)
                    kernel, gradients = further[layer - 1], further_gradients[layer - 1].reshape(-1, width)
                    _add_kernel_gradients(len(kernel), joined, hidden_rows, further_share, gradients)
                    _input_gradient(kernel, joined, hidden_share, d_hidden)
                else:
                    _add_kernel_gradients(
                        len(first), joined, embedded_rows, first_share, first_gradients.reshape(-1, embed_dim)
                    )
                    _input_gradient(first, joined, embedded_share, d_embedded)
            transpose(d_embedded.reshape(-1), embedded_rows.reshape(-1), embed_dim, line)
            _store(embedded_rows, start, token_gradients, fields, embed_dim)
        _add_lanes(output_sums, output_gradients)
        return total / rows

    return step
