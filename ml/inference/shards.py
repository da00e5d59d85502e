"""Search top lists of many users in shards: parts of the users, each with a search and an audit of its own.

A shard's memory does not depend on the number of users, and its lists depend on nothing but itself, so shards can be
searched anywhere and in any order, and those that are finished can be kept.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from ml.files import shortened, write_atomically
from ml.inference.engine.shortlist import Catalogue, Method, SearchReport, search, search_by_brute_force
from ml.inference.engine.top_k import TopLists
from ml.inference.scorer import Scorer

SHARD_USERS = 2**15  # at most; fewer cost more, since every shard scores the users of its audit against all movies

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
    """

    scorer: Scorer
    seen: csr_array
    moments: Sequence[tuple[int, int]]
    length: int
    method: Method
    seed: int

    @property
    def shards(self) -> list[np.ndarray]:
        """User indices of each shard."""
        users = len(self.scorer.user_ids)
        return np.array_split(np.arange(users), -(-users // SHARD_USERS))

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
        """Return a digest of all that the lists depend on: the model and the settings."""
        settings = (*self.moments, self.length, self.method, self.seed, SHARD_USERS)
        hashed = hashlib.sha256(json.dumps(settings).encode())
        bundle = self.scorer.bundle
        hashed.update(bundle.feature_map.to_json())
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


def search_all(request: Search, on_progress: Callable[[int], None], folder: Path | None = None) -> Found:
    """Find the lists of all users, one shard after the other.

    Args:
        request: what is searched.
        on_progress: called with the number of finished lists, over all moments.
        folder: where finished shards are kept until all are found; None: nowhere. A single shard is not kept.
    """
    shards = request.shards
    kept = KeptShards(folder, request.fingerprint()) if folder and len(shards) > 1 else None
    found: list[Found] = []
    done = 0
    for number, users in enumerate(shards):
        end = done + len(users) * len(request.moments)
        if kept and (own := kept.find(number)):
            on_progress(end)
        else:

            def report(of_shard: int, before: int = done) -> None:
                on_progress(before + of_shard)

            own = request.shard(users, report)
            if kept:
                kept.keep(number, own)
        found.append(own)
        done = end
    if kept:
        kept.remove()
    return joined(found)


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

    def numbers(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        return self._catalogue.numbers(self._users[users], movies)
