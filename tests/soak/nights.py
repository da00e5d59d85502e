"""Many nights, each with new ratings and something that goes wrong, and what was found after each."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from tests.soak import invariants
from tests.soak.faults import KINDS, Fault
from tests.soak.home import MODELS, NIGHT_SECONDS, Home


class Soak:
    """Nights in one home, beside another in which nothing happens.

    Args:
        folder: where both lie.
        say: prints a line.
        seed: of the faults and their moments.
        models: which of the recipes are trained.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], seed: int = 1, models: Sequence[str] = MODELS) -> None:
        self.home, self.undisturbed = (Home(folder / name, models) for name in ("disturbed", "undisturbed"))
        self.faults: Counter[str] = Counter()
        self.violations: list[str] = []
        self.nights = 0
        self._say, self._rng = say, np.random.default_rng(seed)

    def night(self, kind: str, fault: Fault) -> None:
        """Receive ratings, run with a fault, run again, and look at what came of it."""
        self.nights += 1
        self._say(f"night {self.nights}: {kind}")
        for home in (self.home, self.undisturbed):
            home.receive(self.nights)
        try:
            fault(self.home, self._rng)
        except AssertionError as error:
            self._note("the fault itself", [str(error)])
        self.faults[kind] += 1
        self._note("after the fault", invariants.whole_tables(self.home))
        with self.home.start() as next_run, self.undisturbed.start() as other:
            status, undisturbed = (process.wait(NIGHT_SECONDS) for process in (next_run, other))
        if status or undisturbed:
            self._note("the next run", [f"exit status {status}, undisturbed {undisturbed}"])
            return
        self._note("whole tables", invariants.whole_tables(self.home))
        self._note("one champion", invariants.one_champion(self.home))
        self._note("no twins", invariants.no_twins(self.home, self.nights))
        self._note("nothing left running", invariants.nothing_left_running(self.home))
        self._note("same tables", invariants.same_tables(self.home, self.undisturbed))

    def report(self) -> dict[str, Any]:
        """What soak.json holds."""
        return {"nights": self.nights, "faults": dict(self.faults), "violations": self.violations}

    def _note(self, what: str, found: Iterator[str] | Sequence[str]) -> None:
        for text in found:
            self.violations.append(f"night {self.nights}, {what}: {text}")
            self._say(f"  VIOLATION {self.violations[-1]}")


def plan(nights: int, seed: int = 1) -> list[tuple[str, Fault]]:
    """Faults of every kind in turn, and between any two a killed step, each step once before any comes again."""
    rng = np.random.default_rng(seed)

    def drawn(kind: str) -> Iterator[Fault]:
        while True:
            yield from (KINDS[kind][at] for at in rng.permutation(len(KINDS[kind])))

    decks = {kind: drawn(kind) for kind in KINDS}
    order = [kind for other in KINDS if other != "kill_step" for kind in ("kill_step", other)]
    return [(kind, next(decks[kind])) for kind in islice(cycle(order), nights)]


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write soak.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
