"""Run the paper's protocol once per seed and compare the means with the paper's figures (``make paper``)."""

import json
import sys

import pandas as pd

from ml.features.splits import PAPER
from ml.files import write_atomically
from orchestration.cli.run import announce, read_evaluation, run_job, say
from orchestration.config.recipes_in_force import paper_models, required
from orchestration.config.settings import settings

SEEDS = (1, 2, 3)
METRICS = ("auc", "log_loss")
# Song et al., "AutoInt", CIKM 2019, MovieLens-1M.
PUBLISHED = {"paper_autoint": (0.8456, 0.3797), "paper_autoint_mlp": (0.8488, 0.3753)}


def main() -> int:
    """Train and measure with each seed, and write the summary; gives the exit status."""
    required(paper_models(), PAPER)
    raw_data, data_line = announce(PAPER)
    evaluations = []
    for seed in SEEDS:
        say(sys.stdout, f"\nSeed {seed}:")
        if status := run_job(raw_data, "--seed", str(seed)):
            return status
        evaluations.append(read_evaluation(raw_data))
    found = summary(evaluations)
    path = settings().home / "bench" / "paper.json"
    write_atomically(path, json.dumps(found, indent=2).encode() + b"\n")
    say(sys.stdout, f"\n{beside_published(found)}\n\nWritten to {path}\n{data_line}")
    return 0


def summary(evaluations: list[pd.DataFrame]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and sample standard deviation over seeds, by model and metric.

    Args:
        evaluations: one frame per seed, with the columns model, metric, value.
    """
    rows = pd.concat(evaluations)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for model in paper_models():
        own = rows[rows["model"] == model].groupby("metric")["value"]
        means, deviations = own.mean().to_dict(), own.std().to_dict()
        found[model] = {metric: {"mean": means[metric], "sd": deviations[metric]} for metric in METRICS}
    return found


def beside_published(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The means and standard deviations next to the published figures, as a table."""
    rows = [
        {"model": model, "metric": metric, **values, "published": PUBLISHED.get(model, (None, None))[at]}
        for model, metrics in found.items()
        for at, (metric, values) in enumerate(metrics.items())
    ]
    return pd.DataFrame(rows).to_markdown(index=False, tablefmt="simple", floatfmt=".4f", missingval="")
