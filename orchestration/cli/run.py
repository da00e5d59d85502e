"""Materialize everything and say what came of it: ``make run``.

With ``temporal`` as an argument: train and measure on the temporal split, and publish nothing (``make run-temporal``).
What has not changed since the last run is not made again; ``random --retrain`` trains every model anew.
"""

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TextIO

import dagster as dg
import pandas as pd

from ml.data.download import OfflineError
from ml.data.source import OFFICIAL, Source
from ml.evaluation.metric_tables import comparison_table
from ml.features.splits import RANDOM, Split
from orchestration.cli.console import Console
from orchestration.cli.execute import START_TAG
from orchestration.config.settings import PROJECT_ROOT, Settings
from orchestration.reporting.metadata import gaps_as_none
from orchestration.resources.raw_data import LastSource, RawData, last_source
from orchestration.resources.storage import Storage
from orchestration.runtime.instance import use_instance
from orchestration.tracking.registry import runs_page

_OFFLINE_STAND_IN = "synthetic"
_POLL_SECONDS = 0.5


def main(split: Split = RANDOM, *arguments: str) -> int:
    """Choose the data, run the split's job, follow it, summarize; gives the exit status.

    Args:
        split: how the ratings are split.
        arguments: further ones of ``orchestration.cli.execute``.
    """
    source, data_line = announce(split)
    raw_data = RawData(source=source, split=split)
    status = run_job(raw_data, *arguments)
    if status == 0:
        _summarize(raw_data, sys.stdout)
    say(sys.stdout, data_line)
    return status


def announce(split: Split) -> tuple[str, str]:
    """Choose the source, print which data that is, have the home remember it, and give both.

    Raises:
        DataError: the source cannot be used; nothing was launched or remembered.
    """
    chosen, note = choose_source()
    raw_data = RawData(source=chosen.source, split=split)
    raw_data.checked()
    raw_data.remember(chosen.is_stand_in)
    line = f"Data set: {raw_data.dataset} (source {chosen.source}{note}, {split} split)"
    say(sys.stdout, line)
    return chosen.source, line


def choose_source() -> tuple[LastSource, str]:
    """MOVIELENS_DIR where it is set; else the last run's source; else the official archive.

    Generated data stands in only where the machine is offline.

    Returns:
        The source, and what to add when naming it.

    Raises:
        DataError: the archive could be reached, but not used.
    """
    settings, last = Settings(), last_source()
    if "movielens_dir" in settings.model_fields_set:
        return LastSource(settings.movielens_dir), ""
    if last and not last.is_stand_in:
        return last, ", as in the last run"
    try:
        Source(OFFICIAL).prepare(settings.cache)
    except OfflineError as error:
        return (
            LastSource(_OFFLINE_STAND_IN, is_stand_in=True),
            f": invented movies and ratings, not MovieLens, since this machine is offline: {error}",
        )
    return LastSource(OFFICIAL), ""


def say(out: TextIO, text: str) -> None:
    """Print a line at once."""
    out.write(f"{text}\n")
    out.flush()


def run_job(raw_data: RawData, *arguments: str) -> int:
    """Run the job of the data's split in a child process and follow it on the console; gives its exit status.

    Args:
        raw_data: what to run on.
        arguments: further ones of ``orchestration.cli.execute``.
    """
    use_instance()
    log = Settings().local_home / "logs" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start_tag = f"make run {uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "orchestration", "execute", raw_data.source, raw_data.split, start_tag, *arguments]
    with log.open("w") as output, dg.DagsterInstance.get() as instance:
        console = Console(instance, START_TAG, start_tag, sys.stdout)
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=PROJECT_ROOT)  # noqa: S603
        try:
            while process.poll() is None:
                console.show_news()
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:  # the child has got the signal too and ends its run
            say(sys.stdout, "Stopping ...")
            process.wait()
        console.show_news()
    if process.returncode:
        say(sys.stdout, _failure(console, log))
    return process.returncode


def _failure(console: Console, log: Path) -> str:
    """What to say of a run that failed."""
    if console.found_run:
        return f"The run failed. All output: {log}. In the Dagster UI (make ui) open the run to see why."
    output = log.read_text(encoding="utf-8", errors="replace").strip()
    return f"No run was launched. {output.splitlines()[-1] if output else 'There is no output.'}\nAll output: {log}"


def read_evaluation(raw_data: RawData) -> pd.DataFrame:
    """The evaluation.parquet that the last run wrote."""
    return Storage(raw_data=raw_data).read_table("evaluation")


def _summarize(raw_data: RawData, out: TextIO) -> None:
    settings = Settings()
    tables = Storage(raw_data=raw_data).tables
    comparison = comparison_table([read_evaluation(raw_data)])
    of_catalogue = comparison.columns.str.startswith("catalogue_")
    for title, table in (
        ("each user's own test interactions", comparison.loc[:, ~of_catalogue]),
        (
            "the whole catalogue",
            comparison.loc[:, of_catalogue].rename(columns=lambda name: name.removeprefix("catalogue_")),
        ),
    ):
        text = gaps_as_none(table.dropna(how="all")).to_markdown(tablefmt="simple", floatfmt=".5f", missingval="")
        say(out, f"\nMetrics over {title}:\n{text}")
    say(out, "")
    for path in sorted(tables.glob("top10_*.parquet")):
        say(out, f"Top-10 table: {path}")
    say(
        out,
        f"\nmake ui opens Dagster on http://127.0.0.1:{settings.dagster_port} and MLflow on "
        f"{runs_page(raw_data.dataset)}",
    )
