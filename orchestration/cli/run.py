"""Rebuild what is stale, and print the results: ``make run``.

The argument ``temporal`` trains and measures on the temporal split and publishes nothing (``make run-temporal``);
``random --retrain`` trains every model again.
"""

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TextIO

import dagster as dg
import pandas as pd

from ml.data.datasets import DEFAULT
from ml.data.download import OfflineError
from ml.evaluation.comparison import comparison_table
from ml.features.splits import RANDOM, Split
from ml.published.champions import published_models
from ml.published.locations import exported_table_path
from orchestration.cli.console import START_TAG, Console
from orchestration.config.data_sets import DataSet, LastSource, chosen, last_source, register, remember, resolved_source
from orchestration.config.settings import PROJECT_ROOT, settings
from orchestration.reporting.metadata import gaps_as_none
from orchestration.resources.raw_data import RawData, checked
from orchestration.resources.storage import Storage
from orchestration.runtime.instance import use_instance
from orchestration.tracking.registry import runs_page

_OFFLINE_STAND_IN = "synthetic"
_POLL_SECONDS = 0.5


def main(split: Split = RANDOM, *arguments: str) -> int:
    """Choose the data, run the split's job, print its events and results; gives the exit status.

    Args:
        split: how the ratings are split.
        arguments: options of ``orchestration.cli.execute``.
    """
    raw_data, data_line = announce(split)
    status = run_job(raw_data, *arguments)
    if status == 0:
        _summarize(raw_data, sys.stdout)
    say(sys.stdout, data_line)
    return status


def announce(split: Split) -> tuple[RawData, str]:
    """Choose the source, print the data set and let the home remember the source.

    Returns:
        The data set with the split, and the printed line.

    Raises:
        DataError: the source cannot be used; nothing was launched or remembered.
    """
    last, note = choose_source()
    checked(resolved_source(last.source))
    raw_data = RawData.of(DataSet(register(last.source), split).key)
    remember(last)
    form = raw_data.format.name
    line = f"Data set: {raw_data.dataset} (source {last.source}{note}, {form}, {split} split)"
    say(sys.stdout, line)
    return raw_data, line


def choose_source() -> tuple[LastSource, str]:
    """DATASET or MOVIELENS_DIR if one is set, else the last run's source, else the official archive.

    Generated data is used instead only if the machine is offline.

    Returns:
        The source, and what to add when it is printed.

    Raises:
        DataError: the archive could be downloaded, but not used.
    """
    last = last_source()
    if spec := chosen():
        return LastSource(spec), ""
    if last and not last.is_stand_in:
        return last, ", as in the last run"
    try:
        resolved_source(DEFAULT).prepare(settings().movielens_cache)
    except OfflineError as error:
        return (
            LastSource(_OFFLINE_STAND_IN, is_stand_in=True),
            f": generated movies and ratings, not MovieLens, since this machine is offline: {error}",
        )
    return LastSource(DEFAULT), ""


def say(out: TextIO, text: str) -> None:
    """Print a line immediately."""
    out.write(f"{text}\n")
    out.flush()


def run_job(raw_data: RawData, *arguments: str) -> int:
    """Run the job of the data's split in a child process and print its events; gives its exit status.

    Args:
        raw_data: the data set and its split.
        arguments: options of ``orchestration.cli.execute``.
    """
    use_instance()
    log = settings().local_home / "logs" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start_tag = f"make run {uuid.uuid4().hex[:8]}"
    execute = [sys.executable, "-m", "orchestration", "execute"]
    command = [*execute, raw_data.source.spec, raw_data.split, start_tag, *arguments]
    with log.open("w") as output, dg.DagsterInstance.get() as instance:
        console = Console(instance, START_TAG, start_tag, sys.stdout)
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=PROJECT_ROOT)  # noqa: S603
        try:
            while process.poll() is None:
                console.show_news()
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:  # the child received the signal too and ends its run
            say(sys.stdout, "Stopping ...")
            process.wait()
        console.show_news()
    if process.returncode:
        say(sys.stdout, _failure(console, log))
    return process.returncode


def _failure(console: Console, log: Path) -> str:
    """The message for a failed run."""
    if console.found_run:
        return f"The run failed. All output: {log}. In the Dagster UI (make ui) open the run to see why."
    output = log.read_text(encoding="utf-8", errors="replace").strip()
    return f"No run was launched. {output.splitlines()[-1] if output else 'There is no output.'}\nAll output: {log}"


def read_evaluation(raw_data: RawData) -> pd.DataFrame:
    """The evaluation.parquet that the last run wrote."""
    return Storage(raw_data=raw_data).read_table("evaluation")


def _summarize(raw_data: RawData, out: TextIO) -> None:
    home = settings().home
    comparison = comparison_table([read_evaluation(raw_data)])
    of_catalogue = comparison.columns.str.startswith("catalogue_")
    for title, table in (
        ("each user's own test interactions", comparison.loc[:, ~of_catalogue]),
        (
            "the whole catalog",
            comparison.loc[:, of_catalogue].rename(columns=lambda name: name.removeprefix("catalogue_")),
        ),
    ):
        text = gaps_as_none(table.dropna(how="all")).to_markdown(tablefmt="simple", floatfmt=".5f", missingval="")
        say(out, f"\nMetrics over {title}:\n{text}")
    say(out, "")
    for model in published_models(home, raw_data.dataset):
        say(out, f"Top-10 table: {exported_table_path(home, raw_data.dataset, model)}")
    say(
        out,
        f"\nmake ui opens Dagster on http://127.0.0.1:{settings().dagster_port} and MLflow on "
        f"{runs_page(raw_data.dataset)}",
    )
