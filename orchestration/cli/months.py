"""Rank for a range of months with the champions: ``make months FIRST=2000-04 LAST=2000-06``."""

import sys

from orchestration.cli.run import run_job, say
from orchestration.config.data_sets import default_data_set
from orchestration.resources.raw_data import RawData


def main(first: str = "", last: str = "") -> int:
    """Run the job on the data of the last run and follow it; gives the exit status. Raises DataError."""
    raw_data = RawData.of(default_data_set())
    say(sys.stdout, f"Data set: {raw_data.dataset}")
    return run_job(raw_data, "--months", first, last)
