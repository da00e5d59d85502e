"""Plan the nights of a year."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from tests.soak import arrivals
from tests.soak.faults import FIRST_STEP, KINDS, Fault, kill_step, steps
from tests.soak.server_faults import NIGHTS

_KILL_STEP = "kill_step"
# Names in the order of arrival: batches have the same numbers, whether they are ingested at once or one by one.
_IN_ORDER = ("usual", "new_users_and_movies", "re_rated")
_IN_PARTS = "delivery_during_run"  # what arrives tonight may be ingested by one run or by two
CHANGES_DURING_RUN = (_IN_PARTS, "code_update")  # other homes can follow only afterwards
_RARE = ("launched_by_sensor", "daemon_away", "webhook_hangs")  # they wait for the daemon: in every second round


@dataclass(frozen=True)
class Planned:
    """A night.

    Attributes:
        kind: of the fault.
        fault: what goes wrong.
        arrival: kind of the files.
        is_followed: whether the pipeline is run again tonight, and everything is checked.
    """

    kind: str
    fault: Fault
    arrival: str = "usual"
    is_followed: bool = True


def plan(nights: int, models: Sequence[str], seed: int = 1) -> list[Planned]:
    """Plan all nights.

    All kinds of faults take turns in an order of their own in each round, with a killed step between any two: the step
    of the base files in the first night, then each other step once before any is repeated. All kinds of arrivals take
    turns. A night whose step is killed has something new, so that it has the step.
    """
    return list(islice(_planned(models, np.random.default_rng(seed)), nights))


def _planned(models: Sequence[str], rng: np.random.Generator) -> Iterator[Planned]:
    killed = chain([FIRST_STEP], _drawn(rng, steps(models)))
    with_files = _drawn(rng, [kind for kind in arrivals.KINDS if kind != "empty"])
    decks = {kind: _drawn(rng, faults) for kind, faults in KINDS.items()}
    anything, in_order = _drawn(rng, arrivals.KINDS), _drawn(rng, _IN_ORDER)
    is_rare_round = True
    while True:
        kinds = [kind for kind in (*KINDS, *NIGHTS) if is_rare_round or kind not in _RARE]
        for kind in (kinds[at] for at in rng.permutation(len(kinds))):
            yield Planned(_KILL_STEP, kill_step(next(killed)), next(with_files))
            if kind in KINDS:
                yield Planned(kind, next(decks[kind]), next(in_order if kind == _IN_PARTS else anything))
                continue
            *before, last = NIGHTS[kind]
            for fault in before:
                yield Planned(kind, fault, next(in_order), is_followed=False)
            yield Planned(kind, last, next(in_order))
        is_rare_round = not is_rare_round


def _drawn(rng: np.random.Generator, of: Sequence[Any]) -> Iterator[Any]:
    """Yield everything in random order, again and again."""
    while True:
        yield from (of[at] for at in rng.permutation(len(of)))
