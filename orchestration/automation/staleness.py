"""Which assets are stale, and why.

Dagster's own code and data versions tell which inputs and whose code changed. They do not tell that somebody changed or
removed a file, a registered version or an alias, that launch settings differ, or that files have arrived.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import AssetKey, AssetMaterialization, AssetsDefinition

from ml.data.manifest import KINDS, MOVIES, USERS
from ml.data.received import Known
from ml.errors import DataError
from orchestration.assets.ingestion import BATCHES, LEFT, TABLES, rows_stored
from orchestration.assets.operations import RUN_PLAN
from orchestration.config.recipes_in_force import reference_models
from orchestration.config.settings import settings
from orchestration.reporting.materializations import (
    CODE_VERSION,
    DATA_VERSION,
    INPUT_VERSION,
    last_materialization,
)
from orchestration.reporting.metadata import SETTINGS, SOURCE_FILE
from orchestration.resources.digests import Digests
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import STORED, Storage
from orchestration.tracking.registered_version import version_of
from orchestration.tracking.resource import Tracking

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

PROMOTION, TOP_LISTS = "promotion", "top10_recommendations"  # the assets that depend on who is champion
_INGESTED = {AssetKey(name) for name in (BATCHES, *TABLES.values())}


@dataclass(frozen=True)
class Plan:
    """What a run rebuilds.

    Attributes:
        reasons: why each stale asset is rebuilt, in the order of the graph.
        up_to_date: assets that stay as they are.
        checks: names of the checks of up-to-date assets, by asset.
    """

    reasons: Mapping[str, str]
    up_to_date: tuple[str, ...]
    checks: Mapping[str, list[str]]

    @property
    def selection(self) -> list[AssetKey]:
        """The assets to materialize: the stale ones, and the one that shows the plan."""
        return [AssetKey(RUN_PLAN), *map(AssetKey, self.reasons)]

    @property
    def ops(self) -> dict[str, Any]:
        """The run configuration that carries the plan."""
        config = {"reasons": dict(self.reasons), "up_to_date": list(self.up_to_date), "checks": dict(self.checks)}
        return {RUN_PLAN: {"config": config}}


@dataclass(frozen=True)
class _Arrivals:
    """What has arrived, in words: files that can be ingested, and files that cannot."""

    good: str | None = None
    refused: str | None = None


class Planner:
    """Compares assets of a data set with what Dagster recorded when its partition was last materialized.

    Args:
        instance: holds the records.
        graph: the assets.
        raw_data: the data set.
    """

    def __init__(self, instance: dg.DagsterInstance, graph: "AssetGraph", raw_data: RawData) -> None:
        self._instance, self._graph, self._raw_data = instance, graph, raw_data
        self._storage, self._tracking = Storage(raw_data=raw_data), Tracking(raw_data=raw_data)
        self._digests = Digests(settings().local_home / "digests.json")
        self._records: dict[AssetKey, AssetMaterialization | None] = {}

    def plan(self, selection: dg.AssetSelection, forced: Collection[str] = ()) -> Plan:
        """Plan which assets of a selection to rebuild.

        Args:
            selection: the assets of a job.
            forced: assets to rebuild in any case.

        Raises:
            DataError: a raw file is missing, or what says who is champion is damaged, which no run can repair.
        """
        self._raw_data.checked()
        keys = selection.resolve(self._graph) - {AssetKey(RUN_PLAN)}
        stale: dict[AssetKey, str] = {}
        ending: set[AssetKey] = set()  # rebuilt, but without a change for the assets downstream
        for key in self._graph.toposorted_asset_keys:
            if key not in keys or key in stale:
                continue
            definition = self._graph.get(key).assets_def
            reason = next(self._reasons(definition, set(stale) - ending, forced), None)
            if reason is None and key == AssetKey(BATCHES):
                reason = self._arrivals.refused or self._gone(key)
                ending |= definition.keys
            if reason:
                stale |= dict.fromkeys(sorted(definition.keys), reason)  # an operation materializes all of its assets
        up_to_date = tuple(
            key.to_user_string() for key in self._graph.toposorted_asset_keys if key in keys - set(stale)
        )
        with suppress(OSError):  # they only save time
            self._digests.save()
        reasons = {key.to_user_string(): reason for key, reason in stale.items()}
        return Plan(reasons, up_to_date, {name: checks for name in up_to_date if (checks := self._checks(name))})

    def _checks(self, asset: str) -> list[str]:
        return sorted(check.name for check in self._graph.get(AssetKey(asset)).check_keys)

    def _reasons(
        self, definition: AssetsDefinition, stale: Collection[AssetKey], forced: Collection[str]
    ) -> Iterator[str]:
        for key in sorted(definition.keys):
            if key.to_user_string() in forced:
                yield "requested"
            yield from self._own_reasons(definition, key)
        for parent in sorted(definition.dependency_keys):
            if parent in stale:
                yield f"{parent.to_user_string()} is rebuilt"
            for key in definition.keys:
                if self._tag(key, INPUT_VERSION + parent.to_user_string()) != self._as_input(parent):
                    yield f"{parent.to_user_string()} has changed"

    def _own_reasons(self, definition: AssetsDefinition, key: AssetKey) -> Iterator[str]:
        name, record = key.to_user_string(), self._record(key)
        stored = record.metadata.get(STORED) if record else None
        if record is None or stored is None:
            yield "never built"
            return
        written: Any = stored.value
        if self._tag(key, CODE_VERSION) != definition.code_versions_by_key[key]:
            yield "its code or configuration has changed"
        declared = definition.metadata_by_key[key]
        if SETTINGS in declared and declared[SETTINGS] != record.metadata[SETTINGS].value:
            yield "last built with other settings"
        if SOURCE_FILE in declared:
            yield from self._source_reasons(str(declared[SOURCE_FILE]), record)
        for file, digest in written.items():
            found = self._storage.digest(file, self._digests.of)
            if found != digest:
                yield f"{file} is missing" if found is None else f"{file} has been changed since it was written"
        yield from self._registry_reasons(name)
        yield from self._arrival_reasons(key)

    def _source_reasons(self, kind: str, record: AssetMaterialization) -> Iterator[str]:
        if self._raw_digests[kind] != record.metadata[SOURCE_FILE].value:
            yield f"{self._raw_data.format.file_of(kind).name} has changed"

    @cached_property
    def _raw_digests(self) -> Mapping[str, str]:
        return self._raw_data.digests(self._raw_data.checked(), self._digests.of)

    def _arrival_reasons(self, key: AssetKey) -> Iterator[str]:
        if key not in _INGESTED or not self._raw_data.takes_batches:
            return
        try:
            # Each table is compared: they are written one by one, and a run may have died between two.
            if self._ingested_versions[key] != self._tag(key, DATA_VERSION):
                yield "files were ingested or withdrawn since"
            if key == AssetKey(BATCHES) and self._arrivals.good:
                yield self._arrivals.good
        except (DataError, OSError) as error:  # the asset itself will fail with it
            yield f"what has arrived cannot be read: {error}"

    @cached_property
    def _ingested_versions(self) -> Mapping[AssetKey, str]:
        """The data versions of what the manifest tells now. Raises DataError and OSError."""
        received = self._raw_data.ingestion.received
        manifest = received.manifest
        tables = {AssetKey(name): received.version(manifest, kind) for kind, name in TABLES.items()}
        return {AssetKey(BATCHES): manifest.version(*KINDS), **tables}

    @cached_property
    def _arrivals(self) -> "_Arrivals":
        if not self._raw_data.takes_batches:
            return _Arrivals()
        users, movies = (self._storage.find_table(f"raw_{kind}", [f"{kind[:-1]}_id"]) for kind in (USERS, MOVIES))
        if users is None or movies is None:  # they are rebuilt, and what has arrived is sorted after that
            return _Arrivals()
        stored = rows_stored(self._instance, self._storage, self._digests.of)
        sorting = self._raw_data.ingestion.reusing(stored).sort(Known(users["user_id"], movies["movie_id"]))
        refused = len(sorting.bad) + len(sorting.waiting) + len(sorting.repeated) + len(sorting.stray)
        return _Arrivals(
            _counted(len(sorting.good), "has arrived", "have arrived"),
            _counted(refused, "cannot be ingested", "cannot be ingested"),
        )

    def _gone(self, key: AssetKey) -> str | None:
        """Why to sort again though nothing has arrived: the check still warns of files that somebody has removed."""
        record = self._record(key)
        left: Any = record.metadata.get(LEFT) if record else None
        return "files that could not be ingested are gone" if left and left.value else None

    def _registry_reasons(self, name: str) -> Iterator[str]:
        if name not in (PROMOTION, TOP_LISTS, *self._tracking.config.registered_models):
            return
        from mlflow.exceptions import MlflowException

        try:
            yield from self._champion_reasons(name) if name in (PROMOTION, TOP_LISTS) else self._version_reasons(name)
        except MlflowException as error:  # the asset itself will fail with it
            yield f"the registry does not answer: {error}"

    def _version_reasons(self, model: str) -> Iterator[str]:
        version = version_of(self._storage.read_document(model))
        if version and (problem := self._tracking.problem_of(version)):
            yield problem

    def _champion_reasons(self, name: str) -> Iterator[str]:
        """What of any model's champion is missing, or differs in the registry or in the exported table."""
        for model in reference_models():
            publication = self._tracking.publication(model)
            if (number := publication.champion()) is None:
                continue
            if self._tracking.champion(model) is None:
                yield f"version {number} of {model}, whose table is published, is not in the registry"
            elif name == TOP_LISTS:
                yield from publication.differences()

    def _tag(self, key: AssetKey, name: str) -> str | None:
        record = self._record(key)
        return (record.tags or {}).get(name) if record else None

    def _as_input(self, parent: AssetKey) -> str | None:
        """What an asset downstream records of a parent's data version: Dagster hashes those of the partitions read."""
        version = self._tag(parent, DATA_VERSION)
        return sha256(version.encode()).hexdigest() if version else None

    def _record(self, key: AssetKey) -> AssetMaterialization | None:
        if key not in self._records:
            self._records[key] = last_materialization(self._instance, self._raw_data.dataset, key)
        return self._records[key]


def _counted(files: int, one: str, several: str) -> str | None:
    return f"{files} file{'' if files == 1 else 's'} {one if files == 1 else several}" if files else None
