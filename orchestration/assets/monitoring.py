"""Whether what comes in at night still looks like what came before."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from orchestration.assets.common import MONITORING, OWNERS
from orchestration.checks import warning
from orchestration.code_versions import code_version
from orchestration.digests import digest
from orchestration.metadata import inline_picture, markdown_table

_LIMITS = digest(MONITORING.drift.model_dump_json().encode())  # not those of other assets, nor of freshness
_CHECKS = {
    "counts": "About as many ratings, users and movies as in the intake before.",
    "positive_share": "About the share of positive labels of the intake before.",
    "population_stability": "Every field is distributed about as in the intake before.",
    "unknown_codes": "Few rows have a value that was not known before.",
}


@dg.asset(
    group_name="monitoring",
    owners=OWNERS,
    code_version=f"{code_version(__name__)}-{_LIMITS}",
    kinds={"pandas", "parquet"},
    check_specs=[dg.AssetCheckSpec(name, asset="data_drift", description=text) for name, text in _CHECKS.items()],
)
def data_drift(interactions: pd.DataFrame, deliveries: dict[str, Any]) -> Iterator[Any]:
    """Tonight's new ratings against those of the night before; beyond the limits of monitoring.yaml, it warns."""
    from ml.evaluation import drift_plots  # noqa: PLC0415 - Matplotlib is slow to import
    from ml.evaluation.drift import compare_nights  # noqa: PLC0415
    from ml.evaluation.drift_findings import drift_findings, with_limits  # noqa: PLC0415
    from ml.evaluation.plots import png  # noqa: PLC0415

    found = compare_nights(interactions, deliveries)
    for finding in drift_findings(found, MONITORING.drift):
        yield warning("data_drift", finding)
    by_intake = png(drift_plots.intakes_plot("new ratings", found.totals))
    metadata: dict[str, Any] = {
        "by_intake": markdown_table(found.totals.reset_index()),
        "intakes": inline_picture("new ratings by intake", by_intake),
    }
    if len(found.fields):
        fields = with_limits(found.fields, MONITORING.drift)
        by_field = png(drift_plots.stability_plot(f"intake {found.tonight} against {found.before}", fields))
        metadata |= {
            "by_field": markdown_table(fields),
            "stability": inline_picture("population stability index by field", by_field),
        }
    yield dg.MaterializeResult(value=found.table, metadata={**metadata, **found.figures})
