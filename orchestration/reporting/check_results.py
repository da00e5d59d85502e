"""The library's findings as Dagster's check results.

A failed blocking check stops the asset before its value is written, so that the last good one stays in place. A check
that warns stops nothing.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

import dagster as dg

from ml import checks
from ml.checks import Finding
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.metadata import plain

ON_TIME = "on_time"  # the check of assets with a deadline; the sensor deadlines fails it


def check_spec(name: str, asset: str, description: str, blocking: bool = False) -> dg.AssetCheckSpec:
    """Spec of a check whose results are recorded for each data set."""
    with warnings.catch_warnings():
        # Dagster announces that such checks may change in a patch release; constraints.txt has the tested one.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking, partitions_def=DATA_SETS
        )


def on_time_spec(asset: str, description: str) -> dg.AssetCheckSpec:
    """Spec of the check ``ON_TIME``, which passes when its asset is materialized, and fails while it is overdue.

    Dagster's own freshness policies see an asset as a whole: one data set's run would hide that another one has none.
    """
    return check_spec(ON_TIME, asset, description)


def on_time(asset: str) -> dg.AssetCheckResult:
    """The result of the check ``ON_TIME`` of an asset that is materialized now."""
    return dg.AssetCheckResult(passed=True, asset_key=asset, check_name=ON_TIME, description="In time.")


def checks_last(materialize: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Let an asset's function yield the results of checks after everything else, or before its exception.

    Dagster's UI shows only results that refer to the latest materialization of a partition. They are evaluated before
    it is written all the same.
    """

    @wraps(materialize)
    def reordered(*arguments: Any, **named: Any) -> Iterator[Any]:
        results: list[dg.AssetCheckResult] = []
        try:
            for event in materialize(*arguments, **named):
                if isinstance(event, dg.AssetCheckResult):
                    results.append(event)
                else:
                    yield event
        except Exception:
            yield from results
            raise
        yield from results

    return reordered


def blocking(asset: str, *names: str) -> list[dg.AssetCheckSpec]:
    """Specs of blocking checks of an asset, named like the library's functions."""
    return [check_spec(name, asset, _about(name), blocking=True) for name in names]


def blocking_by_model(asset: str, name: str, models: Sequence[str]) -> list[dg.AssetCheckSpec]:
    """Specs of a blocking check per model, ``<name>_<model>``."""
    about = _about(name)
    return [check_spec(f"{name}_{model}", asset, f"{model}: {about}", blocking=True) for model in models]


def _about(name: str) -> str:
    """The first paragraph of the docstring of the library's function."""
    return " ".join(str(inspect.getdoc(getattr(checks, name))).split("\n\n")[0].replace("``", "`").split())


def warning(asset: str, finding: Finding, shown: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    """The result of a check that warns, from a finding whose facts have a ``summary``.

    Args:
        asset: the checked asset.
        finding: its summary becomes the description, which the webhook gets too.
        shown: further metadata.
    """
    facts = plain(finding.facts)
    return dg.AssetCheckResult(
        passed=bool(finding.passed),
        asset_key=asset,
        check_name=finding.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=facts.pop("summary"),
        metadata={**facts, **(shown or {})},
    )


def skipped_check(asset: str, name: str, reason: str) -> dg.AssetCheckResult:
    """The result of a check for which there is nothing to check."""
    return dg.AssetCheckResult(
        passed=True, asset_key=asset, check_name=name, description=f"Skipped: {reason}.", metadata={"skipped": reason}
    )


def together(name: str, findings: Mapping[str, Finding]) -> Finding:
    """One finding of a check of several things, with the figures of those that failed.

    Args:
        name: of the check.
        findings: by what was checked.
    """
    failed = {of: plain(finding.facts) for of, finding in findings.items() if not finding.passed}
    return Finding(name, not failed, {"checked": ", ".join(findings), **failed})


def require(asset: str, *findings: Finding) -> Iterator[dg.AssetCheckResult]:
    """Report findings as results of blocking checks.

    Raises:
        dagster.Failure: a check failed; it is not retried.
    """
    for finding in findings:
        yield dg.AssetCheckResult(
            passed=bool(finding.passed), asset_key=asset, check_name=finding.name, metadata=plain(finding.facts)
        )
    refuse(asset, *findings)


def refuse(asset: str, *findings: Finding) -> None:
    """Stop before anything is written if a check failed.

    Raises:
        dagster.Failure: a check failed; it is not retried.
    """
    failed = {finding.name: plain(finding.facts) for finding in findings if not finding.passed}
    if failed:
        details = "; ".join(f"{name}: {facts}" for name, facts in failed.items())
        raise dg.Failure(f"{asset} failed {details}; nothing was written", metadata=failed, allow_retries=False)
