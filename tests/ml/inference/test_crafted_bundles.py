"""Bundles that somebody made to do harm are refused by name, execute nothing and write nothing."""

import io
import json
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.errors import DataError
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntCINConfig, AutoIntConfig

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def members(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("saved") / "model.zip"
    bundle.save(path)
    return contents(path.read_bytes())


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in which nothing may appear; all temporary ones are two levels below it."""
    temporary = tmp_path / "place" / "temporary"
    temporary.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(temporary)
    yield tmp_path / "place"
    assert [path.name for path in (tmp_path / "place").rglob("*")] == ["temporary"]


class Owned:
    """Pickled, makes a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("../owned",)


def refusal(data: bytes, tmp_path: Path) -> str:
    path = tmp_path / "crafted.zip"
    path.write_bytes(data)
    with pytest.raises(DataError) as raised:
        ModelBundle.load(path)
    assert str(raised.value).startswith(str(path))
    return str(raised.value).removeprefix(str(path))


STRANGE = ["../owned", "../../owned", "/tmp/owned", "C:\\owned", "assets/owned.npz", "payload.pkl", "network.keras/x"]


@pytest.mark.parametrize("name", STRANGE)
def test_a_member_that_is_not_expected(name: str, members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    message = refusal(zipped({**members, name: pickle.dumps(Owned())}), tmp_path)
    assert f"unexpected member {name!r}; expected once each feature_map.json, lists.json, movies.parquet, " in message
    network = zipped({**contents(members["network.keras"]), name: pickle.dumps(Owned())})
    message = refusal(zipped({**members, "network.keras": network}), tmp_path)
    assert f", network.keras: not a model bundle, unexpected member {name!r}" in message


def test_a_member_that_is_there_twice(members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    data = bytearray(zipped({**members, "numbers.jsom": b"[]"}))
    data = data.replace(b"numbers.jsom", b"numbers.json")
    assert "unexpected member 'numbers.json'" in refusal(bytes(data), tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb(compression: int, members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    bomb = zipped({**members, "feature_map.json": bytes(10**7)}, compression)
    assert "is compressed or encrypted" in refusal(bomb, tmp_path)
    network = zipped({**contents(members["network.keras"]), "model.weights.h5": bytes(10**7)}, compression)
    message = refusal(zipped({**members, "network.keras": network}), tmp_path)
    assert ", network.keras: not a model bundle, member 'metadata.json' is compressed" in message


def test_a_member_that_lies_about_its_size(members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    data = bytearray(zipped(members))
    entry = data.rindex(b"PK\x01\x02")  # of the directory's last member
    data[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
    assert "is compressed or encrypted (2,147,483,648 bytes declared" in refusal(bytes(data), tmp_path)


@pytest.fixture
def with_network(members: dict[str, bytes]) -> Callable[..., bytes]:
    """A bundle with another configuration or other weights of its network."""

    def make(configure: Change = lambda config: config, weights: bytes | None = None) -> bytes:
        inner = contents(members["network.keras"])
        inner["config.json"] = json.dumps(configure(json.loads(inner["config.json"]))).encode()
        inner["model.weights.h5"] = weights or inner["model.weights.h5"]
        return zipped({**members, "network.keras": zipped(inner)})

    return make


def layer(config: Any, class_name: str) -> Any:
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == class_name)


def described(module: str | None, class_name: Any, config: Any, registered_name: Any = None) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAA=", "defaults": None, "closure": None}}
CLASSES = {
    "Lambda": described("keras.layers", "Lambda", {"name": "x", "function": LAMBDA}),
    "os.system": described("os", "system", "touch ../owned"),
    "os": described("os", "function", "system", "system"),
    "posix.mkdir": described("posix", "function", "mkdir", "mkdir"),
    "builtins.exec": described("builtins", "function", "exec", "exec"),
    "get_file": described("keras.utils", "function", "get_file", "get_file"),
    "internal get_file": described("keras.src.utils.file_utils", "function", "get_file", "get_file"),
    "TFSMLayer": described("keras.layers", "TFSMLayer", {"filepath": "/tmp", "name": "x"}),
    "TorchModuleWrapper": described("keras.layers", "TorchModuleWrapper", {"module": "gASV"}),
    "JaxLayer": described("keras.layers", "JaxLayer", {"call_fn": LAMBDA}),
    "another plain layer": described("keras.layers", "GaussianNoise", {"stddev": 2.0}),
    "Sequential": described("keras", "Sequential", {"layers": []}),
    "another initializer": described("keras.initializers", "Orthogonal", {}),
    "registered elsewhere": described("keras.layers", "Dense", {"units": 1}, "os>system"),
    "our name, other class": described("ml.models.layers", "Other", {}, "movie_recommender>FieldEmbedding"),
    "typespec": {**described("tensorflow", "__typespec__", []), "spec_name": "TensorSpec"},
    "lambda": LAMBDA,
    "no text": described("keras.layers", ["Dense"], {}),
    "an object": described("keras.layers", {"a": 1}, {}),
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("where", ["a layer", "activation", "kernel_initializer", "deep"])
def test_a_class_that_the_builders_do_not_use(
    name: str, where: str, with_network: Callable[..., bytes], tmp_path: Path, place: Path
) -> None:
    def configure(config: Any) -> Any:
        if where == "a layer":
            config["config"]["layers"].insert(1, {**CLASSES[name], "name": "evil", "inbound_nodes": []})
        elif where == "deep":
            layer(config, "Flatten")["inbound_nodes"][0]["kwargs"] = {"a": [{"b": CLASSES[name]}]}
        else:
            layer(config, "Dense")["config"][where] = CLASSES[name]
        return config

    message = refusal(with_network(configure), tmp_path)
    assert message.startswith(", network.keras, config.json: ")
    if where == "a layer":
        assert "layer 'evil'" in message
    class_name = CLASSES[name]["class_name"]
    assert str(class_name) in message
    assert "expected" in message


@pytest.mark.parametrize("config", [[], None, 1, {}, {"class_name": "Functional"}, CLASSES["os"]])
def test_no_network(config: Any, with_network: Callable[..., bytes], tmp_path: Path, place: Path) -> None:
    message = refusal(with_network(lambda _: config), tmp_path)
    assert message == ", network.keras, config.json: expected a functional Keras network"


def test_a_compiled_networks_optimizer_is_left_alone(
    with_network: Callable[..., bytes], tmp_path: Path, place: Path
) -> None:
    """A trained network's file says how it was compiled, and nothing needs it."""
    path = tmp_path / "model.zip"
    path.write_bytes(with_network(lambda config: {**config, "compile_config": {"optimizer": CLASSES["os"]}}))
    assert not ModelBundle.load(path).network.compiled


SIZES = [
    ("FieldEmbedding", "embed_dim", 10**9),
    ("InteractingLayer", "num_heads", 10**9),
    ("Dense", "units", 10**9),
    ("Dense", "lora_rank", 10**9),
    ("FieldEmbedding", "embed_dim", -1),
    ("FieldEmbedding", "embed_dim", "4"),
    ("FieldEmbedding", "field_dims", {"a": 1}),
    ("InteractingLayer", "head_dim", 1.5),
    ("InteractingLayer", "head_dim", True),
]


@pytest.mark.parametrize(("class_name", "setting", "value"), SIZES)
def test_sizes_that_the_weights_do_not_have(
    class_name: str, setting: str, value: Any, with_network: Callable[..., bytes], tmp_path: Path, place: Path
) -> None:
    def configure(config: Any) -> Any:
        layer(config, class_name)["config"][setting] = value
        return config

    message = refusal(with_network(configure), tmp_path)
    assert f"layer {layer_name(class_name)!r}" in message
    assert "declare" in message or "does not say its sizes" in message


def layer_name(class_name: str) -> str:
    return {"FieldEmbedding": "embedding", "InteractingLayer": "interacting_1", "Dense": "logit"}[class_name]


@pytest.mark.parametrize(("value", "reason"), [([4, 10**6, 10**6], "declare"), ([4, 0], "does not declare its sizes")])
def test_feature_maps_that_the_weights_do_not_have(
    value: list[int], reason: str, bundle: ModelBundle, members: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    network = build_model("autoint_cin", Inputs(bundle.feature_map.field_dims), AutoIntCINConfig(num_layers=1), seed=1)
    network.save(tmp_path / "network.keras")
    saved = contents((tmp_path / "network.keras").read_bytes())
    config = json.loads(saved["config.json"])
    layer(config, "CompressedInteraction")["config"]["feature_maps"] = value
    crafted = zipped({**saved, "config.json": json.dumps(config).encode()})
    message = refusal(zipped({**members, "network.keras": crafted}), tmp_path)
    assert "layer 'interaction'" in message
    assert reason in message


def test_arguments_that_do_not_fit(with_network: Callable[..., bytes], tmp_path: Path, place: Path) -> None:
    def configure(config: Any) -> Any:
        layer(config, "InteractingLayer")["config"]["attention_dropout"] = 7
        return config

    assert ", network.keras: Keras cannot load it" in refusal(with_network(configure), tmp_path)


def test_another_number_of_codes_than_the_feature_maps(
    bundle: ModelBundle, members: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    """A code beyond a table's end would be read from whatever memory comes after it."""
    dims = [size - (field == 3) for field, size in enumerate(bundle.feature_map.field_dims)]
    small = build_model("autoint", Inputs(dims), AutoIntConfig(num_layers=1), seed=1)
    few = build_model("autoint", Inputs(dims[:5]), AutoIntConfig(num_layers=1), seed=1)
    messages = []
    for network in (small, few):
        network.save(tmp_path / "network.keras")
        data = zipped({**members, "network.keras": (tmp_path / "network.keras").read_bytes()})
        messages.append(refusal(data, tmp_path))
    assert "layer 'embedding' has other sizes than the feature map's features" in messages[0]
    assert "inputs and outputs have the shapes" in messages[1]


def linked(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "/")


def soft(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("/layers")


def external(file: h5py.File) -> None:
    file.create_dataset("x", (100,), "u1", external=[("/etc/passwd", 0, 100)])


def unallocated(file: h5py.File) -> None:
    file.create_dataset("x", (10**12,), "f4", chunks=(2**16,))


def packed(file: h5py.File) -> None:
    file.create_dataset("x", data=np.zeros(10**6, "f4"), compression="gzip")


def texts(file: h5py.File) -> None:
    file.create_dataset("x", data=[b"text of any length"], dtype=h5py.special_dtype(vlen=bytes))


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
    file.create_virtual_dataset("x", layout)


def deep(file: h5py.File) -> None:
    file.create_group("/".join("g" * 50))


def circular(file: h5py.File) -> None:
    file["layers/again"] = file["layers"]


@pytest.mark.parametrize("change", [linked, soft, external, unallocated, packed, texts, virtual, deep, circular])
def test_weights_that_are_not_in_the_file_as_they_are(
    change: Callable[[h5py.File], None], members: dict[str, bytes], with_network: Callable[..., bytes], tmp_path: Path
) -> None:
    buffer = io.BytesIO(contents(members["network.keras"])["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    message = refusal(with_network(weights=buffer.getvalue()), tmp_path)
    assert message.startswith(", network.keras, model.weights.h5: ")


@pytest.mark.parametrize("weights", [b"no file of weights", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_no_weights(weights: bytes, with_network: Callable[..., bytes], tmp_path: Path, place: Path) -> None:
    assert "model.weights.h5: not a file of weights" in refusal(with_network(weights=weights), tmp_path)


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_a_pickled_type_in_a_table(bundle: ModelBundle, members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    """Old versions of PyArrow unpickled such a type's description."""
    table = pa.Table.from_pandas(bundle.users)
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Owned())}
    field = pa.field("evil", pa.int64(), metadata=metadata)
    data = parquet(table.append_column(field, pa.array(range(len(bundle.users)), pa.int64())))
    with warnings.catch_warnings(action="ignore"):  # PyArrow warns of a type that it will not read
        message = refusal(zipped({**members, "users.parquet": data}), tmp_path)
    assert message.startswith(", users.parquet: found the columns age, evil, gender")


@pytest.mark.parametrize("kind", ["list", "struct", "map", "dictionary", "time"])
def test_a_column_that_is_not_flat(
    kind: str, bundle: ModelBundle, members: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    table = pa.Table.from_pandas(bundle.users, preserve_index=False)
    rows, at = len(table), table.schema.get_field_index("zip")
    columns: dict[str, pa.Array] = {
        "list": pa.array([[0] * 1000] * rows),
        "struct": pa.array([{"a": 0}] * rows),
        "map": pa.array([[("a", 0)]] * rows, pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array(["x"] * rows).dictionary_encode(),
        "time": pa.array([0] * rows, pa.timestamp("s")),
    }
    data = parquet(table.set_column(at, "zip", columns[kind]))
    message = refusal(zipped({**members, "users.parquet": data}), tmp_path)
    assert message.startswith(", users.parquet: the column zip is of the type ")


def test_texts_that_are_many_times_as_large_as_the_file(
    bundle: ModelBundle, members: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    table = pa.Table.from_pandas(bundle.users, preserve_index=False)
    texts = pa.array(["x" * 2**20] * len(table))
    large = table.set_column(table.schema.get_field_index("zip"), "zip", texts)
    for codec, told in (("ZSTD", "the column user_id is compressed by ZSTD"), ("SNAPPY", "bytes of text; expected at")):
        buffer = io.BytesIO()
        pq.write_table(large, buffer, compression=codec, row_group_size=len(large))
        assert len(buffer.getvalue()) < 2**20
        message = refusal(zipped({**members, "users.parquet": buffer.getvalue()}), tmp_path)
        assert message.startswith(", users.parquet: ")
        assert told in message


@pytest.mark.parametrize(("name", "largest"), [("numbers.json", 2**20), ("feature_map.json", 64 * 2**20)])
def test_a_member_is_not_read_if_it_is_too_large(
    name: str, largest: int, members: dict[str, bytes], tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = zipped({**members, name: bytes(largest + 1)})
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("read"))
    assert f"member {name!r} has {largest + 1:,} bytes; expected at most {largest:,}" in refusal(data, tmp_path)


@pytest.mark.parametrize("name", ["users.parquet", "movies.parquet"])
def test_tables_of_other_rows(name: str, members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    key = {"users.parquet": "user_id", "movies.parquet": "movie_id"}[name]
    table = pd.read_parquet(io.BytesIO(members[name]))
    many = pa.table({key: pa.repeat(pa.scalar(1), 10**6)})
    for other, words in (
        (parquet(many), "1,000,000 rows; expected"),
        (table.iloc[::-1].to_parquet(index=False), f"{key} differs from the feature map's"),
        (table.drop(columns=key).to_parquet(index=False), "found the columns"),
        (pickle.dumps(Owned()), "not a table"),
        (members[name][:-30], "not a table"),
    ):
        message = refusal(zipped({**members, name: other}), tmp_path)
        assert message.startswith(f", {name}: ")
        assert words in message


DEEP = b"[" * 200_000 + b"]" * 200_000


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"{}", b'"a"', b"[1]", b"null", DEEP, pickle.dumps(Owned())])
@pytest.mark.parametrize("name", ["numbers.json", "feature_map.json"])
def test_documents_of_another_kind(
    name: str, text: bytes, members: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    assert refusal(zipped({**members, name: text}), tmp_path).startswith(f", {name}: ")


def test_a_deep_configuration(members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    network = zipped({**contents(members["network.keras"]), "config.json": DEEP})
    message = refusal(zipped({**members, "network.keras": network}), tmp_path)
    assert message.startswith(", network.keras, config.json: ")


def test_a_feature_map_of_another_kind(members: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    document = json.loads(members["feature_map.json"])
    field = document["fields"][0]
    for wrong in (
        {**field, "values": "abc", "size": 3},
        {**field, "values": [{"a": 1}], "size": 1},
        {**field, "values": [1, "1"], "size": 2},
        {**field, "values": [True, False], "size": 2},
        {**field, "values": [1.5], "size": 1},
        {**field, "values": [], "size": 0},
        {**field, "side": "neither"},
        {**field, "name": ["x"]},
        [],
        7,
    ):
        data = json.dumps({**document, "fields": [wrong, *document["fields"][1:]]}).encode()
        assert refusal(zipped({**members, "feature_map.json": data}), tmp_path).startswith(", feature_map.json: ")
    twice = json.dumps({**document, "fields": [field, *document["fields"]]}).encode()
    assert "expected each once" in refusal(zipped({**members, "feature_map.json": twice}), tmp_path)
