"""An AutoInt of ``ml.models.autoint`` as an ONNX graph, for runtimes to compare the compiled scorer with."""

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ml.models.autoint import LOGIT_LAYER, embedded_positions, inner_network
from ml.models.layers import InteractingLayer
from ml.models.numerical import NumericalEmbedding, PairProducts

CODES = "codes"
NUMBERS = "numbers"  # the product that computes collaborative features, if there are any
_OPSET = 17


class _Graph:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        """Add a weight; return its name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def add(self, operation: str, *inputs: str | np.ndarray, **attributes: object) -> str:
        """Add a node with one output; return its name."""
        return self.split(operation, 1, *inputs, **attributes)[0]

    def split(self, operation: str, outputs: int, *inputs: str | np.ndarray, **attributes: object) -> list[str]:
        """Add a node with several outputs; return their names."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        made = [f"{operation}_{len(self.nodes)}_{number}" for number in range(outputs)]
        name = attributes.pop("name", made[0])
        self.nodes.append(helper.make_node(operation, names, made, name, **attributes))
        return made


def to_onnx(network: keras.Model) -> bytes:
    """Return the ONNX file of a published network: from indices int32 [rows, features] to logits float32 [rows].

    Raises:
        ValueError: the network has options that no published recipe uses.
    """
    inner, graph = inner_network(network), _Graph()
    layers = [layer for layer in inner.layers if isinstance(layer, InteractingLayer)]
    if any(layer.projection_relu or layer.layer_norm or not layer.use_residual for layer in layers):
        raise ValueError("expected interacting layers with a residual, without projection_relu and layer_norm")
    embedding = inner.get_layer("embedding")
    positions = np.arange(network.inputs[0].shape[1])[embedded_positions(inner)]
    selected = graph.add("Gather", CODES, positions, axis=1)
    rows = graph.add("Add", selected, embedding.offsets.astype(np.int32))
    tokens = graph.add("Gather", np.asarray(embedding.table), rows)  # [rows, features, embed_dim]
    embedded = tokens
    if inner is not network:
        tokens = graph.add("Concat", tokens, _numbers(graph, network, inner), axis=1)
    for layer in layers:
        tokens = _interact(graph, tokens, layer)
    flat = graph.add("Flatten", tokens)
    deep = any(layer.name == "deep_logit" for layer in inner.layers)
    output = inner.get_layer("attention_logit" if deep else LOGIT_LAYER)
    logit = graph.add("MatMul", flat, np.asarray(output.kernel))
    if deep:
        logit = graph.add("Add", logit, _deep(graph, embedded, inner))
    graph.nodes.append(helper.make_node("Squeeze", [logit, graph.constant(np.array([1]))], ["logits"], "logits"))
    codes = helper.make_tensor_value_info(CODES, TensorProto.INT32, ["rows", network.inputs[0].shape[1]])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows"])
    whole = helper.make_graph(graph.nodes, "autoint", [codes], [logits], graph.weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _numbers(graph: _Graph, network: keras.Model, inner: keras.Model) -> str:
    """Add the collaborative features' embeddings, [rows, features, embed_dim]."""
    [products] = [layer for layer in network.layers if isinstance(layer, PairProducts)]
    [embedding] = [layer for layer in inner.layers if isinstance(layer, NumericalEmbedding)]
    left, right = (
        graph.add("Gather", np.asarray(table), graph.add("Gather", CODES, np.array(position), axis=1))
        for table, position in zip((products.left, products.right), products.positions, strict=True)
    )
    groups = np.repeat(np.eye(len(products.widths), dtype=np.float32), products.widths, axis=0)
    groups /= np.array(embedding.scales, np.float32)
    numbers = graph.add("MatMul", graph.add("Mul", left, right), groups, name=NUMBERS)
    centres = np.array(embedding.centres, np.float32) / np.array(embedding.scales, np.float32)
    standardized = graph.add("Unsqueeze", graph.add("Sub", numbers, centres), np.array([2]))
    return graph.add(
        "Add", graph.add("Mul", standardized, np.asarray(embedding.direction)), np.asarray(embedding.offset)
    )


def _interact(graph: _Graph, tokens: str, layer: InteractingLayer) -> str:
    """Add an interacting layer, [rows, tokens, heads * head_dim]; its four kernels are one product."""
    heads, width = layer.num_heads, layer.head_dim
    factor = np.float32(width**-0.5 if layer.scaled else 1)
    query, key, value, residual = (
        np.asarray(each) for each in (layer.query_kernel, layer.key_kernel, layer.value_kernel, layer.residual_kernel)
    )
    kernel = np.concatenate([query * factor, key, value, residual], axis=1)
    parts = graph.split("Split", 4, graph.add("MatMul", tokens, kernel), axis=2)
    by_head = [graph.add("Reshape", part, np.array([0, 0, heads, width])) for part in parts[:3]]
    queries, values = (graph.add("Transpose", by_head[each], perm=[0, 2, 1, 3]) for each in (0, 2))
    keys = graph.add("Transpose", by_head[1], perm=[0, 2, 3, 1])
    weights = graph.add("Softmax", graph.add("MatMul", queries, keys), axis=-1)  # [rows, heads, tokens, tokens]
    mixed = graph.add("Transpose", graph.add("MatMul", weights, values), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, np.array([0, 0, heads * width]))
    return graph.add("Relu", graph.add("Add", joined, parts[3]))


def _deep(graph: _Graph, embedded: str, inner: keras.Model) -> str:
    """Add the deep branch's logit, [rows, 1]."""
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in inner.layers):
        raise ValueError("expected a deep branch without batch normalization")
    names = [layer.name for layer in inner.layers if isinstance(layer, keras.layers.Dense)]
    hidden = graph.add("Flatten", embedded)
    for name in sorted(name for name in names if name.startswith("deep_") and name != "deep_logit"):
        hidden = graph.add("Relu", _dense(graph, hidden, inner.get_layer(name)))
    return _dense(graph, hidden, inner.get_layer("deep_logit"))


def _dense(graph: _Graph, inputs: str, layer: keras.layers.Dense) -> str:
    return graph.add("Add", graph.add("MatMul", inputs, np.asarray(layer.kernel)), np.asarray(layer.bias))
