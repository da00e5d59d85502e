"""Measure what diverse lists cost, on the results of ``make run``: ``make bench-diversity``.

Each published network's lists of movies without training rows are searched again for several values of the recipes'
setting ``diversity``, and measured as the pipeline measures its own. Writes ``bench/diversity.json`` in the home.
"""

import sys
from dataclasses import replace
from typing import Any

from benchmarks.common import published_dataset, read_table, say, write_json
from ml.evaluation.catalogue import catalogue_metrics
from ml.features.genres import genre_sets
from ml.inference.held_out import held_out_lists
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from ml.published.champions import published_versions

_DIVERSITIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
_PREFIX, _SUFFIX = "catalogue_", "_at_10"


def main(arguments: list[str]) -> None:
    """Measure, print and write the figures."""
    home, dataset = published_dataset(arguments)
    train, test = (read_table(dataset, f"{part}_interactions") for part in ("train", "test"))
    rows: list[dict[str, Any]] = []
    for model, champion in published_versions(home, dataset).items():
        bundle = ModelBundle.load(champion.bundle)
        for diversity in _DIVERSITIES:
            scorer = Scorer(replace(bundle, diversity=diversity))
            lists, _ = held_out_lists(scorer, train)
            metrics = catalogue_metrics(train, test, lists, genre_sets(bundle.movies["genres"]))
            shown = {name.removeprefix(_PREFIX).removesuffix(_SUFFIX): value for name, value in metrics.items()}
            rows.append({"model": model, "diversity": diversity, **shown})
    say(f"lists of {dataset} by diversity", rows)
    write_json(home / "bench" / "diversity.json", {"dataset": dataset, "lists": rows})


if __name__ == "__main__":
    main(sys.argv[1:])
