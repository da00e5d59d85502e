"""Prepare what Dagster's servers need, and check it: ``python -m orchestration instance``.

It creates DAGSTER_HOME with the project's dagster.yaml and the tables of a database, claims a home that is a URL, and
asks the tracking server. Then ``dagster-webserver``, ``dagster-daemon`` and ``dagster code-server`` can be started with
the DAGSTER_HOME that it prints. ``make ui`` does all this itself.
"""

import sys

from orchestration.cli.ui import offer_data_sets
from orchestration.config.writer import claim_home
from orchestration.runtime.instance import use_instance
from orchestration.tracking.registry import client_of, configuration


def main() -> int:
    """Prepare; gives the exit status. Raises DataError."""
    claim_home()
    home = use_instance()
    client_of(configuration("any"))
    offer_data_sets()
    sys.stdout.write(f"{home}\n")
    return 0
