"""Simulate a year of nights: ``make soak NIGHTS=365 [SEED=1] [NIGHT=17] [FROM=17]``.

Everything is below ``bench/soak`` of PIPELINE_HOME's local directory. After an interruption, the same command goes on
with the night that was interrupted; another SEED starts a new year. A night with a violation is kept: ``NIGHT=17``
repeats it alone, as often as wanted, and with ``FROM=17`` the year goes on with it, instead of where it was. Writes
``bench/soak.json``, and ``bench/soak.png``, which draws disk and memory.
"""

import signal
import sys

from ml.files import write_atomically
from orchestration.config.settings import Settings
from tests.soak.drawing import drawn
from tests.soak.kept import Kept
from tests.soak.plan import plan
from tests.soak.report import write_report

_MODELS = ("autoint",)


def main(nights: int, seed: int, only: int | None, again: int | None) -> int:
    """Simulate the nights that are left, or one of them; return 1 if an invariant was violated.

    Args:
        nights: of the year.
        seed: of the year.
        only: the night to repeat alone.
        again: the failed night to go on with.
    """
    bench = Settings().local_home / "bench"
    kept = Kept(bench / "soak", {"seed": seed}, _say)
    if again is not None:
        kept.go_back(again)
    soak = kept.begin(only, _MODELS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped
    found_before = len(soak.violations) if only is not None else 0
    try:
        for night, planned in enumerate(plan(nights if only is None else only, _MODELS, seed), 1):
            if night <= soak.nights:
                continue
            if only is None:
                kept.before(soak)
            found = len(soak.violations)
            soak.night(planned)
            kept.start_servers(soak)
            if only is not None:
                continue
            if len(soak.violations) > found:
                kept.keep(night)
            write_report(bench / "soak.json", soak.report())
            write_atomically(bench / "soak.png", drawn(soak.measures))
    finally:
        kept.end(soak)
    for what in (soak.faults, soak.arrivals):
        _say(", ".join(f"{kind} {count}" for kind, count in what.items()))
    violations = soak.violations[found_before:]
    _say(f"{'1 night' if only is not None else f'{soak.nights} nights'}: {len(violations)} violations")
    return 1 if violations else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    repeated, again = (int(given[name]) if given.get(name) else None for name in ("NIGHT", "FROM"))
    sys.exit(main(int(given.get("NIGHTS") or 20), int(given.get("SEED") or 1), repeated, again))
