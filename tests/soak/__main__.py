"""Simulate nights with faults and write bench/soak.json under PIPELINE_HOME: ``make soak NIGHTS=20``."""

import sys
import tempfile
from pathlib import Path

from orchestration.config.settings import Settings
from tests.soak.nights import Soak, plan, write_report


def main(nights: int) -> int:
    """Simulate the nights; return 1 if an invariant was violated."""

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder), say)
        for kind, fault, arrival in plan(nights):
            soak.night(kind, fault, arrival)
            write_report(Settings().local_home / "bench" / "soak.json", soak.report())
    for what in (soak.faults, soak.arrivals):
        say(", ".join(f"{kind} {count}" for kind, count in what.items()))
    say(f"{soak.nights} nights: {len(soak.violations)} violations")
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
