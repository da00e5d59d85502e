"""The models' arithmetic once more, in plain NumPy and float64, for the tests to compare with."""

from typing import Any

import keras
import numpy as np

from ml.models.config import AutoIntConfig

_EPSILON = 1e-3  # Keras's default in BatchNormalization


def randomize(model: keras.Model, scale: float = 1) -> dict[str, np.ndarray]:
    """Set every weight to a value far from zero; returns them by path, such as ``interacting_1/query``."""
    generator = np.random.default_rng(7)
    for weight in model.weights:
        values = generator.normal(scale=scale, size=weight.shape)
        weight.assign(np.abs(values) + 0.5 if weight.path.endswith("moving_variance") else values)
    return {weight.path: np.asarray(weight, dtype=np.float64) for weight in model.weights}


def interact(inputs: np.ndarray, kernels: dict[str, np.ndarray], heads: int, width: int, scaled: bool) -> np.ndarray:
    """One interacting layer, [batch, fields, heads * width]: a loop over rows, heads and fields."""
    batch, fields, _ = inputs.shape
    output = np.zeros((batch, fields, heads * width))
    for row in range(batch):
        for head in range(heads):
            columns = range(head * width, (head + 1) * width)
            query, key, value = (
                [[inputs[row, field] @ kernels[name][:, column] for column in columns] for field in range(fields)]
                for name in ("query", "key", "value")
            )
            for field in range(fields):
                scores = [sum(q * k for q, k in zip(query[field], key[other], strict=True)) for other in range(fields)]
                exponents = np.exp(np.array(scores) / (np.sqrt(width) if scaled else 1))
                for other in range(fields):
                    weight = exponents[other] / exponents.sum()
                    output[row, field, columns] += weight * np.array(value[other])
        if "residual" in kernels:
            for field in range(fields):
                output[row, field] += inputs[row, field] @ kernels["residual"]
    return np.maximum(output, 0)


def compressed_interaction(inputs: np.ndarray, kernels: list[np.ndarray]) -> np.ndarray:
    """A compressed interaction network, [batch, maps of all layers]: a loop over rows, layers, maps and products."""
    batch, fields, _ = inputs.shape
    pooled: list[list[float]] = [[] for _ in range(batch)]
    for row in range(batch):
        hidden = inputs[row]
        for kernel in kernels:
            maps = []
            for weights in kernel.T:
                products = [hidden[h] * inputs[row, f] for h in range(len(hidden)) for f in range(fields)]
                maps.append(sum(weight * product for weight, product in zip(weights, products, strict=True)))
            hidden = np.array(maps)
            pooled[row] += [float(each.sum()) for each in hidden]
    return np.array(pooled)


def forward(
    weights: dict[str, np.ndarray], field_dims: tuple[int, ...], config: AutoIntConfig, codes: np.ndarray
) -> np.ndarray:
    """The logit of AutoInt, AutoInt+MLP or AutoInt+CIN, by which branch the weights hold, [batch]; no dropout."""
    starts = [sum(field_dims[:field]) for field in range(len(field_dims))]
    table = weights["embedding/table"]
    embeddings = np.array([[table[start + code] for start, code in zip(starts, row, strict=True)] for row in codes])

    hidden = embeddings
    for number in range(1, config.num_layers + 1):
        names = [name for name in ("query", "key", "value", "residual") if f"interacting_{number}/{name}" in weights]
        kernels = {name: weights[f"interacting_{number}/{name}"] for name in names}
        hidden = interact(hidden, kernels, config.num_heads, config.head_dim, config.scaled)
    flat = hidden.reshape(len(codes), -1)
    if "logit/kernel" in weights:
        return (flat @ weights["logit/kernel"])[:, 0]
    attention = flat @ weights["attention_logit/kernel"]
    if "interaction_logit/kernel" in weights:
        kernels = [weights[path] for path in sorted(weights) if path.startswith("interaction/kernel_")]
        pooled = compressed_interaction(embeddings, kernels)
        return (attention + pooled @ weights["interaction_logit/kernel"] + weights["interaction_logit/bias"])[:, 0]
    return (attention + _deep_logit(weights, config, embeddings.reshape(len(codes), -1)))[:, 0]


def sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def _deep_logit(weights: dict[str, np.ndarray], config: Any, hidden: np.ndarray) -> np.ndarray:
    for number in range(1, len(config.hidden_units) + 1):
        hidden = hidden @ weights[f"deep_{number}/kernel"] + weights[f"deep_{number}/bias"]
        if config.batch_normalization:
            gamma, beta, mean, variance = (
                weights[f"deep_norm_{number}/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            hidden = gamma * (hidden - mean) / np.sqrt(variance + _EPSILON) + beta
        hidden = np.maximum(hidden, 0)
    return hidden @ weights["deep_logit/kernel"] + weights["deep_logit/bias"]
