"""Read a network from the bytes of a .keras file, and only a network that this project's builders can make.

A .keras file names the classes to instantiate, with their arguments. Keras refuses the most dangerous ones; here only
the classes that ``ml.models`` uses are accepted, and everything is checked before Keras sees it: the archive's members,
the classes, the sizes that they declare, and how the weights are stored.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import h5py
import keras

import ml.models.autoint  # noqa: F401 - registers the layers that a saved network refers to
from ml.errors import DataError
from ml.files import LARGEST_DOCUMENT, parse_json
from ml.models.layers import PACKAGE

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_FLOAT_BYTES = 4
LARGEST_NETWORK = 4 * 2**30  # bytes
_MEMBERS = {_CONFIG: LARGEST_DOCUMENT, _METADATA: LARGEST_DOCUMENT, _WEIGHTS: LARGEST_NETWORK}
_DEEPEST = 16  # nested groups; ours have at most 6

_OWN = {name for name in keras.saving.get_custom_objects() if name.startswith(f"{PACKAGE}>")}  # registered names
_PLAIN = (
    "Activation",
    "Add",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "Flatten",
    "InputLayer",
    "ReLU",
    "Rescaling",
)
# How Keras names a class in a configuration: module, class_name, registered_name.
_Name = tuple[Any, Any, Any]
_LAYERS: dict[_Name, str] = {("keras.layers", name, None): name for name in _PLAIN}
_PARTS: set[_Name] = {
    (None, "__keras_tensor__", None),
    ("keras", "DTypePolicy", None),
    *(("keras.initializers", name, None) for name in ("GlorotUniform", "Ones", "RandomNormal", "Zeros")),
    ("keras.regularizers", "L2", None),
}
_NETWORK: _Name = ("keras.src.models.functional", "Functional", "Functional")


def read_network(data: bytes, where: str) -> keras.Model:
    """Return the uncompiled network of a .keras file.

    Args:
        data: the file's content.
        where: name of the file in errors.

    Raises:
        DataError: it is not a .keras file, or has parts that the builders do not use; the message names the part.
    """
    members = read_members(io.BytesIO(data), _MEMBERS, where)
    config = parse_json(members[_CONFIG], f"{where}, {_CONFIG}")
    for each in _objects(config):
        each.pop("compile_config", None)  # optimizer and loss, which scoring does not need
    _require_known_classes(config, f"{where}, {_CONFIG}")
    _require_plain_weights(members[_WEIGHTS], f"{where}, {_WEIGHTS}")
    _require_stored_sizes(config, len(members[_WEIGHTS]), where)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(_METADATA, members[_METADATA])
            archive.writestr(_CONFIG, json.dumps(config))
            archive.writestr(_WEIGHTS, members[_WEIGHTS])
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # whatever layers and Keras raise for arguments and weights that do not fit
            raise DataError(f"{where}: Keras cannot load it ({error}); retrain the model") from error


def read_members(
    file: BinaryIO, largest: Mapping[str, int], where: str, optional: Mapping[str, int] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return the members of a zip archive that has these alone, all uncompressed, as this project writes them.

    Uncompressed members cannot be larger than the archive, and no file is written under a name from the archive.

    Args:
        file: the archive; none of its members is read before all were checked.
        largest: accepted bytes of each member by name.
        where: the archive's name in errors.
        optional: as ``largest``, of members that an archive may lack.

    Raises:
        DataError: it is not such an archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            there = {name: size for name, size in optional.items() if name in archive.namelist()}
            expected = {**largest, **there}
            problem = _problem_of_members(archive.infolist(), expected)
            members = {} if problem else {name: archive.read(name) for name in expected}
    except OSError:  # of the file system: the archive may be fine
        raise
    except Exception as error:  # whatever zipfile raises for damaged bytes
        raise DataError(f"{where}: not a model bundle ({error}); rebuild the model") from error
    if problem:
        raise DataError(f"{where}: not a model bundle, {problem}")
    return members


def _problem_of_members(found: list[zipfile.ZipInfo], largest: Mapping[str, int]) -> str | None:
    """Return what is wrong with the members of an archive; None if they are those expected."""
    given = [info.filename for info in found]
    if missing := set(largest) - set(given):
        return f"{', '.join(sorted(missing))} missing"
    expected = ", ".join(sorted(largest))
    if strange := sorted({name for name in given if name not in largest or given.count(name) > 1}):
        return f"unexpected member {strange[0]!r}; expected once each {expected}"
    for info in found:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            return (
                f"member {info.filename!r} is compressed or encrypted ({info.file_size:,} bytes declared, "
                f"{info.compress_size:,} stored); expected stored, unencrypted members"
            )
        if info.file_size > largest[info.filename]:
            return f"member {info.filename!r} has {info.file_size:,} bytes; expected at most {largest[info.filename]:,}"
    return None


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """Yield all JSON objects in a document, at any depth."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


def _name(config: dict[str, Any]) -> _Name:
    return config.get("module"), config.get("class_name"), config.get("registered_name")


def _own_layer(name: _Name) -> str | None:
    """Return which of our layers a name means. Only the registered name decides, since modules may be moved."""
    _, own, registered = name
    return own if registered == f"{PACKAGE}>{own}" and registered in _OWN else None


def _require_known_classes(config: Any, where: str) -> None:
    if not isinstance(config, dict) or _name(config) != _NETWORK:
        raise DataError(f"{where}: expected a functional Keras network")
    for each in _objects(config):
        if not {"class_name", "module", "registered_name"} & each.keys():
            continue
        name = _name(each)
        if not all(isinstance(part, str | None) for part in name):
            raise DataError(f"{where}: {_called(each)}: expected names of a module and a class, found {name}")
        if name in _LAYERS or name in _PARTS or name == _NETWORK or _own_layer(name):
            continue
        raise DataError(
            f"{where}: {_called(each)} is of the class {name[0]}.{name[1]} (registered as {name[2]}), which no network "
            "of this project has; expected layers of ml.models and plain ones of keras.layers"
        )


def _called(config: dict[str, Any]) -> str:
    """Return what to call a part of the configuration in errors."""
    inner = config.get("config")
    name = config.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return f"layer {name!r}" if isinstance(name, str) else "an unnamed part"


def _require_stored_sizes(config: Any, stored: int, where: str) -> None:
    """Raise DataError if layers declare more weights than the file has bytes for: Keras allocates them first."""
    declared = 0
    for each in _objects(config):
        layer = _LAYERS.get(_name(each)) or _own_layer(_name(each))
        if layer is None or layer not in _WEIGHTS_OF:
            continue
        try:
            declared += _WEIGHTS_OF[layer](_Declared(each))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{where}: {_called(each)} does not declare its sizes ({error!r})") from error
        if declared * _FLOAT_BYTES > stored:
            raise DataError(
                f"{where}: {_called(each)} and those before it declare {declared:,} weights or more; expected no more "
                f"than the {stored:,} bytes of {_WEIGHTS} hold"
            )


class _Declared:
    """Reads the sizes in a layer's description; missing or wrong ones raise various errors."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._description, self.config = description, description["config"]

    def size(self, name: str) -> int:
        return _positive(self.config[name])

    def sizes(self, name: str) -> list[int]:
        return [_positive(each) for each in self.config[name]]

    @property
    def width(self) -> int:
        """Of the layer's input."""
        return _positive(self._description["build_config"]["input_shape"][-1])

    @property
    def features(self) -> int:
        """Of the layer's input [batch, features, width]."""
        return _positive(self._description["build_config"]["input_shape"][-2])


def _dense(layer: _Declared) -> int:
    if layer.config.get("lora_rank") or layer.config.get("quantization_config"):
        raise ValueError("neither lora_rank nor quantization_config is expected")
    return layer.width * layer.size("units")


# How many weights a layer has, at least as many as Keras allocates for it.
_WEIGHTS_OF: Mapping[str, Callable[[_Declared], int]] = {
    "FieldEmbedding": lambda layer: sum(layer.sizes("field_dims")) * layer.size("embed_dim"),
    "MultivaluedEmbedding": lambda layer: (
        prod(layer.sizes("shape")) + layer.sizes("shape")[-1] * layer.size("embed_dim")
    ),
    "NumericalEmbedding": lambda layer: 2 * len(layer.config["centres"]) * layer.size("embed_dim"),
    # Its call also makes a matrix [columns, groups].
    "PairProducts": lambda layer: (
        max(sum(layer.sizes("sizes")), len(layer.sizes("widths"))) * sum(layer.sizes("widths"))
    ),
    "InteractingLayer": lambda layer: 3 * layer.width * layer.size("num_heads") * layer.size("head_dim"),
    "CompressedInteraction": lambda layer: (
        layer.features * sum(map(prod, pairwise((layer.features, *layer.sizes("feature_maps")))))
    ),
    "BatchNormalization": lambda layer: 4 * layer.width,
    "Dense": _dense,
}


def _positive(size: Any) -> int:
    if type(size) is not int or size < 1:
        raise ValueError(f"expected a positive integer, found {size!r}")
    return size


def _require_plain_weights(data: bytes, where: str) -> None:
    """Raise DataError if an HDF5 file has anything but plain arrays of numbers."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            problem = _problem_of_weights(file)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: not a file of weights ({error})") from error
    if problem:
        raise DataError(f"{where}: {problem}")


def _problem_of_weights(file: h5py.File) -> str | None:
    """Return the first part of a file that is no plain array or group of arrays, and what is wrong with it.

    Links can lead to other files, and datasets that are virtual, filtered or not allocated can have any size.
    """
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        path, group = waiting.pop()
        if path.count("/") > _DEEPEST:
            return f"{path} is too deep; expected groups of layers"
        for name in group:
            place = f"{path}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return f"{place} is a link; expected arrays"
            found = group[name]
            if isinstance(found, h5py.Group):
                waiting.append((place, found))
            elif not _is_plain(found):
                return f"{place} is not a plain array of numbers stored in the file"
    return None


def _is_plain(dataset: h5py.Dataset) -> bool:
    stored = not dataset.external and dataset.id.get_storage_size() == dataset.nbytes
    return stored and dataset.dtype.kind in "fiub" and dataset.chunks is None and not dataset.is_virtual
