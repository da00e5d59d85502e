"""Simulate nights, each with arriving files and a fault, and collect the violations."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np
import pandas as pd

from tests.soak import arrivals, invariants
from tests.soak.arrivals import Sender
from tests.soak.faults import FIRST_STEP, KINDS, Fault, kill_step
from tests.soak.home import MODELS, NIGHT_SECONDS, Home


class Soak:
    """Nights in one home, compared with another home without faults.

    Args:
        folder: directory of both homes.
        say: prints a line.
        seed: random seed of the faults and their times.
        models: recipes to train.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], seed: int = 1, models: Sequence[str] = MODELS) -> None:
        self.home, self.undisturbed = (Home(folder / name, models) for name in ("disturbed", "undisturbed"))
        self.faults: Counter[str] = Counter()
        self.arrivals: Counter[str] = Counter()
        self.violations: list[str] = []
        self.nights = 0
        self._versions = 0
        self._say, self._rng = say, np.random.default_rng(seed)
        folders = [home.incoming for home in (self.home, self.undisturbed)]
        self._sender = Sender(self.home.data, folders, np.random.default_rng(seed))

    def night(self, kind: str, fault: Fault, arrival: str = "usual") -> None:
        """Send files, run with a fault, run again, and check the invariants."""
        self.nights += 1
        self._say(f"night {self.nights}: {kind}, {arrival}")
        self._versions += self._sender.send(arrival) or not self._versions
        self.arrivals[arrival] += 1
        try:
            fault(self.home, self._rng)
        except (AssertionError, TimeoutExpired) as error:
            self._note("the fault itself", [str(error)])
        self.faults[kind] += 1
        self._note("after the fault", invariants.whole_tables(self.home))
        codes = self.home.codes()
        with self.home.start() as next_run, self.undisturbed.start() as other:
            try:
                status, undisturbed = (process.wait(NIGHT_SECONDS) for process in (next_run, other))
            except TimeoutExpired as error:
                self._note("the next run", [str(error)])
                return
        if status or undisturbed:
            self._note("the next run", [f"exit status {status}, undisturbed {undisturbed}"])
            return
        self._note("whole tables", invariants.whole_tables(self.home, self._sender.truth.users))
        self._note("every rating once", invariants.every_rating_once(self.home, self._sender.truth))
        self._note("codes kept", invariants.codes_kept(codes, self.home.codes()))
        self._note("one champion", invariants.one_champion(self.home))
        self._note("no twins", invariants.no_twins(self.home, self._versions))
        self._note("nothing left running", invariants.nothing_left_running(self.home))
        self._note("same tables", invariants.same_tables(self.home, self.undisturbed))

    def report(self) -> dict[str, Any]:
        """Return the content of soak.json."""
        ingested = self.home.tables / "ingested_ratings.parquet"
        ratings = {
            "ingested": self._sender.truth.ingested,
            "counted": len(pd.read_parquet(ingested)) if ingested.exists() else 0,
        }
        return {
            "nights": self.nights,
            "faults": dict(self.faults),
            "arrivals": dict(self.arrivals),
            "ratings": ratings,
            "violations": self.violations,
        }

    def _note(self, what: str, found: Iterator[str] | Sequence[str]) -> None:
        for text in found:
            self.violations.append(f"night {self.nights}, {what}: {text}")
            self._say(f"  VIOLATION {self.violations[-1]}")


def plan(nights: int, seed: int = 1) -> list[tuple[str, Fault, str]]:
    """Plan kind of fault, fault and arrival of every night.

    All kinds of faults take turns, with a killed step between any two: the step of the base files in the first night,
    then each other step once before any is repeated. All kinds of arrivals take turns. An empty night has no step to
    kill.
    """
    rng = np.random.default_rng(seed)

    def drawn(of: Sequence[Any]) -> Iterator[Any]:
        while True:
            yield from (of[at] for at in rng.permutation(len(of)))

    decks = {kind: drawn(KINDS[kind]) for kind in KINDS}
    decks["kill_step"] = chain([kill_step(FIRST_STEP)], decks["kill_step"])
    order = [kind for other in KINDS if other != "kill_step" for kind in ("kill_step", other)]
    with_files = [kind for kind in arrivals.KINDS if kind != "empty"]
    arriving = {killed: drawn(with_files if killed else arrivals.KINDS) for killed in (True, False)}
    return [(kind, next(decks[kind]), next(arriving[kind == "kill_step"])) for kind in islice(cycle(order), nights)]


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write soak.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
