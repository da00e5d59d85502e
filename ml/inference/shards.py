"""Search top lists of many users in shards: parts of the users, each with a search and an audit of its own.

A shard's memory does not depend on the number of users, and its lists depend on nothing but itself, so shards can be
searched anywhere and in any order, and those that are finished can be kept.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ml.files import shortened, write_atomically
from ml.inference.engine.shortlist import Catalogue, Method, SearchReport, search, search_by_brute_force
from ml.inference.engine.top_k import TopLists
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from ml.processors import Each

SHARD_USERS = 2**15  # at most; fewer cost more, since every shard scores the users of its audit against all movies
FEWEST_USERS = 2**11  # where work is divided among machines

Found = list[tuple[TopLists, SearchReport]]  # of each moment


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        scorer: of the model.
        seen: bool [users, movies], true where a movie must not be listed.
        moments: years and months (1-12).
        length: of a list.
        method: ``shortlist`` or ``brute_force``.
        seed: of the users that ``shortlist`` samples and audits.
        parts: least number of shards.
    """

    scorer: Scorer
    seen: csr_array
    moments: Sequence[tuple[int, int]]
    length: int
    method: Method
    seed: int
    parts: int = 1

    @property
    def shards(self) -> list[np.ndarray]:
        """User indices of each shard."""
        users = len(self.scorer.user_ids)
        return np.array_split(np.arange(users), max(-(-users // SHARD_USERS), min(self.parts, users // FEWEST_USERS)))

    def shard(self, users: np.ndarray, on_progress: Callable[[int], None] = lambda done: None) -> Found:
        """Find the lists of one shard.

        Args:
            users: indices of the shard.
            on_progress: called with the number of finished lists, over all moments.
        """
        catalogues: list[Catalogue] = [_Shard(self.scorer.catalogue(*moment), users) for moment in self.moments]
        if self.method == "shortlist":
            return search(catalogues, self.seen[users], self.length, self.seed, on_progress)
        return search_by_brute_force(catalogues, self.seen[users], self.length, on_progress)

    def fingerprint(self) -> str:
        """Return a digest of the model and the settings; the lists depend on nothing else but the code."""
        settings = (*self.moments, self.length, self.method, self.seed, len(self.shards))
        hashed = hashlib.sha256(json.dumps(settings).encode())
        bundle = self.scorer.bundle
        for text in (bundle.feature_map.to_json(), bundle.network.to_json(), json.dumps(bundle.numbers)):
            hashed.update(text.encode() if isinstance(text, str) else text)
        for table in (bundle.users, bundle.movies):
            hashed.update(table.to_json().encode())
        for array in (*bundle.network.get_weights(), self.seen.indptr, self.seen.indices):
            hashed.update(array.tobytes())
        return shortened(hashed)


class KeptShards:
    """Lists of finished shards, in files, so that an interrupted search goes on.

    Args:
        folder: of all searches of a model.
        fingerprint: of the search; those of others in the folder are removed.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        for other in folder.glob("*/"):
            if other.name != fingerprint:
                shutil.rmtree(other)
        self._folder = folder / fingerprint

    def find(self, number: int) -> Found | None:
        """Return the lists of a shard; None if they are not there. A damaged file counts as none."""
        path = self._folder / f"{number}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                reports = json.loads(bytes(arrays["reports"]))
                return [
                    (TopLists(arrays[f"movies{at}"], arrays[f"scores{at}"]), SearchReport(**report))
                    for at, report in enumerate(reports)
                ]
        except Exception:
            return None

    def keep(self, number: int, found: Found) -> None:
        """Write the lists of a shard."""
        reports = json.dumps([asdict(report) for _, report in found]).encode()
        arrays = {"reports": np.frombuffer(reports, np.uint8)}
        for at, (lists, _) in enumerate(found):
            arrays |= {f"movies{at}": lists.movies, f"scores{at}": lists.scores}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(self._folder / f"{number}.npz", buffer.getvalue())

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class Means:
    """How a search is carried out; its lists do not depend on it.

    Attributes:
        folder: where finished shards are kept until all are found, so that an interrupted search goes on; None:
            nowhere. A single shard is not kept.
        code: digest of the code; shards that other code has found are not used.
        each: searches the shards on other machines; None: one after the other, here.
    """

    folder: Path | None = None
    each: Each | None = None
    code: str = ""


def search_all(request: Search, on_progress: Callable[[int], None], means: Means | None = None) -> Found:
    """Find the lists of all users.

    Args:
        request: what is searched.
        on_progress: called with the number of finished lists, over all moments.
        means: how; default: here, and nothing is kept.
    """
    means = means or Means()
    folder, each = means.folder, means.each
    request = replace(request, parts=each.parts) if each else request
    shards = request.shards
    kept = KeptShards(folder, f"{request.fingerprint()}-{means.code}") if folder and len(shards) > 1 else None
    found = {number: own for number in range(len(shards)) if kept and (own := kept.find(number))}
    missing = [number for number in range(len(shards)) if number not in found]
    done = sum(len(shards[number]) for number in found) * len(request.moments)
    if found:
        on_progress(done)
    results = _elsewhere(request, missing, each) if each else _here(request, missing, on_progress, done)
    for number, own in results:
        found[number] = own
        done += len(shards[number]) * len(request.moments)
        if kept:
            kept.keep(number, own)
        if each:
            on_progress(done)
    if kept:
        kept.remove()
    return joined([found[number] for number in range(len(shards))])


def _here(
    request: Search, numbers: Sequence[int], on_progress: Callable[[int], None], done: int
) -> Iterator[tuple[int, Found]]:
    """Yield shards by number, one after the other; ``done``: lists that were finished before."""
    for number in numbers:
        users = request.shards[number]

        def report(of_shard: int, before: int = done) -> None:
            on_progress(before + of_shard)

        yield number, request.shard(users, report)
        done += len(users) * len(request.moments)


@dataclass(frozen=True)
class _Packed:
    """A search without the network, which cannot be copied to another machine, and the bundle as a file."""

    bundle: bytes
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, request: Search) -> "_Packed":
        settings = {field.name: getattr(request, field.name) for field in fields(request) if field.name != "scorer"}
        return cls(request.scorer.bundle.to_bytes(), settings)

    def unpacked(self) -> Search:
        bundle = ModelBundle.from_bytes(self.bundle, "the model to search with")
        return Search(Scorer(bundle), **self.settings)


def _elsewhere(request: Search, numbers: Sequence[int], each: Each) -> Iterator[tuple[int, Found]]:
    users = [request.shards[number] for number in numbers]
    for place, own in each(_Packed.unpacked, Search.shard, users, _Packed.of(request)):
        yield numbers[place], own


def joined(shards: Sequence[Found]) -> Found:
    """Join the lists of all shards, in order."""
    if len(shards) == 1:
        return shards[0]
    return [
        (TopLists.joined([lists for lists, _ in moment]), SearchReport.joined([report for _, report in moment]))
        for moment in zip(*shards, strict=True)
    ]


class _Shard:
    """A catalogue whose users are those of a shard."""

    def __init__(self, catalogue: Catalogue, users: np.ndarray) -> None:
        self._catalogue, self._users = catalogue, users
        self.shape = (len(users), catalogue.shape[1])

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        return self._catalogue.pairs(self._users[users], movies)

    def rows(self, users: np.ndarray) -> np.ndarray:
        return self._catalogue.rows(self._users[users])

    def numbers(self, users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        return self._catalogue.numbers(self._users[users], movies)
