"""Simulate nights, each with arriving files and a fault, and collect the violations."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np

from tests.soak import invariants
from tests.soak.always_on import AlwaysOn
from tests.soak.arrivals import Sender
from tests.soak.deployed import Deployed
from tests.soak.disk import Disk
from tests.soak.faults import Night
from tests.soak.home import MODELS, Home
from tests.soak.plan import CHANGES_DURING_RUN, Planned
from tests.soak.undisturbed import Undisturbed

COMPARED = 10  # nights from one complete undisturbed run to the next
DEPLOYED = 30  # nights from one run of the home on servers to the next
_RATES = (3e-3, 2e-3)  # learning rates before and after an update of recipes.yaml
_REMEMBERED = 20  # number of champions whose users are remembered
_MIB = 2**20


class Soak:
    """Nights in one home, compared with another home without faults.

    Args:
        folder: directory of both homes.
        say: prints a line.
        seed: random seed of the faults, their times and the files.
        models: recipes to train.
        disk: that the disturbed home is on, if it has one of its own.

    Attributes:
        nights: how many have ended.
        violations: of all nights.
        repeated: nights that were repeated after a fault was fixed.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        seed: int = 1,
        models: Sequence[str] = MODELS,
        disk: Disk | None = None,
    ) -> None:
        self.home = Home(disk.folder if disk else folder / "disturbed", models, is_warm=disk is not None)
        self.undisturbed = Undisturbed(folder / "undisturbed", models, is_warm=disk is not None)
        self.faults: Counter[str] = Counter()
        self.arrivals: Counter[str] = Counter()
        self.violations: list[str] = []
        self.measures: list[dict[str, float]] = []
        self.nights = 0
        self.repeated: list[int] = []
        self.always_on: AlwaysOn | None = None
        self.deployed: Deployed | None = None
        self._is_new, self._extra, self._updates, self._is_rolled_back = False, 0, 0, False
        self._versions: dict[str, int] = {}
        self._users: dict[str, list[int]] = {}  # who had rated when a champion was trained
        self._codes: dict[str, list[Any]] = {}  # those before the first fault since the last check
        self._say, self._seed, self._disk = say, seed, disk
        self._sender = Sender(self.home.data, [self.home.incoming, self.undisturbed.incoming], seed)

    def deploy(self) -> None:
        """Start servers, and a home on them that gets the same files from now on."""
        self.deployed = Deployed(self.undisturbed)
        self._sender.incoming.append(self.deployed.incoming)

    def night(self, planned: Planned) -> None:
        """Send files, run with a fault; then, unless nobody does tonight, run again and check the invariants."""
        self.nights += 1
        self._say(f"night {self.nights}: {planned.kind}, {planned.arrival}")
        self._codes = self._codes or self.home.codes()
        self._deliver(planned.arrival)
        rng = np.random.default_rng([self._seed, self.nights])
        night = Night(self.home, rng, lambda: self._deliver("usual", 1), self._update, self.always_on, self._disk)
        has_all = planned.is_followed and planned.kind not in CHANGES_DURING_RUN
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self._follow) if has_all else None
            try:
                planned.fault(night)
            except Exception as error:  # one that is no fault of the pipeline must not end the year
                self._note("the fault itself", [repr(error)])
        self.faults[planned.kind] += planned.is_followed
        self._note("after the fault", invariants.whole_tables(self.home))
        if planned.is_followed and self._recovered() and (following.result() if following else self._follow()):
            self._check(is_rollback=planned.kind == "rollback")
        if self.always_on:
            self._note("what stays up", self.always_on.problems())
            self._measure()
            self._note("disk and memory", invariants.bounded(self.measures))

    def report(self) -> dict[str, Any]:
        """Return the content of soak.json."""
        return {
            "nights": self.nights,
            "faults": dict(self.faults),
            "arrivals": dict(self.arrivals),
            "ratings": {"ingested": self._sender.truth.ingested, "counted": invariants.counted(self.home)},
            "violations": self.violations,
            "repeated": self.repeated,
            "measures": self.measures,
        }

    def state(self) -> dict[str, Any]:
        """Return what ``resume`` needs besides the homes' files, JSON-ready."""
        return {
            "report": self.report(),
            "sent": self._sender.sent,
            "is_new": self._is_new,
            "updates": self._updates,
            "is_rolled_back": self._is_rolled_back,
            "versions": self._versions,
            "users": self._users,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where another process has stopped."""
        report = state["report"]
        self.nights, self.violations, self.measures = report["nights"], report["violations"], report["measures"]
        self.repeated = report["repeated"]
        self.faults, self.arrivals = Counter(report["faults"]), Counter(report["arrivals"])
        self._sender.replay([(night, kind) for night, kind in state["sent"]])
        self._is_new, self._is_rolled_back = state["is_new"], state["is_rolled_back"]
        self._versions, self._users = state["versions"], state["users"]
        for _ in range(state["updates"]):
            self._update()
        self._extra = 0

    def _deliver(self, arrival: str, extra: int = 0) -> None:
        """Send files to both homes.

        Args:
            arrival: kind of the files.
            extra: how many versions more the night may have because of them.
        """
        self._is_new = self._sender.send(arrival, self.nights) or self._is_new
        self.arrivals[arrival] += 1
        self._extra += extra

    def _update(self) -> None:
        """Train with another learning rate from now on."""
        self._updates, self._extra = self._updates + 1, self._extra + 1
        for home in (self.home, self.undisturbed, *([self.deployed] if self.deployed else [])):
            home.train(home.models, learning_rate=_RATES[self._updates % 2])

    def _recovered(self) -> bool:
        """Run without a fault; gives whether that succeeded."""
        try:
            status = self.home.run()
        except TimeoutExpired as error:
            self._note("the next run", [str(error)])
            return False
        self._note("the next run", [f"exit status {status}"] if status else [])
        return not status

    def _follow(self) -> bool:
        """Let the other homes ingest what has arrived; gives whether the undisturbed one has succeeded.

        From time to time, the one on servers has a complete run instead, with a fault.
        """
        try:
            self.undisturbed.follow(is_complete=self._is_compared)
        except (TimeoutExpired, AssertionError) as error:
            self._note("the undisturbed home", [str(error)])
            return False
        try:
            if self.deployed and self._is_on_servers:
                self._disturb(self.deployed)
            elif self.deployed:
                self.deployed.follow(is_complete=False)
        except Exception as error:  # one of the servers' must not end the year
            self._note("on servers", [repr(error)])
        return True

    @property
    def _is_compared(self) -> bool:
        """Whether the undisturbed home has a complete run tonight."""
        return self._disk is None or self.nights % COMPARED == 1

    @property
    def _is_on_servers(self) -> bool:
        """Whether the home on servers has a run with a fault tonight."""
        return self.nights % DEPLOYED == 2 * COMPARED + 1  # one in which tables are compared

    def _check(self, is_rollback: bool) -> None:
        """Check all invariants.

        Args:
            is_rollback: whether a person has gone back to an earlier version tonight.
        """
        least = int(self._is_new or not self._versions)
        rolled_back = is_rollback or (self._is_rolled_back and not self._is_new)
        for what, found in (
            ("whole tables", invariants.whole_tables(self.home, self._expected_users(rolled_back))),
            ("every rating once", invariants.every_rating_once(self.home, self._sender.truth)),
            ("codes kept", invariants.codes_kept(self._codes, self.home.codes())),
            ("one champion", invariants.one_champion(self.home)),
            ("no twins", invariants.no_twins(self.home, self._versions, least, least + self._extra)),
            ("nothing left running", invariants.nothing_left_running(self.home)),
            ("nothing left over", invariants.nothing_left_over(self.home)),
            ("newest champion", [] if rolled_back else invariants.newest_is_champion(self.home)),
        ):
            self._note(what, found)
        if self._is_compared and not rolled_back:
            self._note("same tables", invariants.same_tables(self.home, self.undisturbed))
        self._versions = invariants.versions(self.home)
        self._codes = {}
        self._is_new, self._extra, self._is_rolled_back = False, 0, rolled_back

    def _expected_users(self, rolled_back: bool) -> dict[str, list[int]]:
        """Return who must have a list, by model: after a rollback, only users who were there when it was trained."""
        champions = {model: f"{model} {version}" for model, version in invariants.champions(self.home).items()}
        if not rolled_back:
            now = dict.fromkeys(champions.values(), sorted(self._sender.truth.users))
            self._users = dict([*self._users.items(), *now.items()][-_REMEMBERED:])
        return {model: self._users[name] for model, name in champions.items() if name in self._users}

    def _disturb(self, deployed: Deployed) -> None:
        """Run the home on servers with a fault, and compare it."""
        rng = np.random.default_rng([self._seed, self.nights, DEPLOYED])
        kind, *found = deployed.night(self.nights // DEPLOYED, rng, self.undisturbed)
        self.faults[kind] += 1
        self._say(f"  on servers: {kind}")
        self._note(f"on servers, {kind}", found)

    def _measure(self) -> None:
        assert self.always_on
        memory = {f"{name}_mib": float(mib) for name, mib in self.always_on.memory().items()}
        log = self.home.log.stat().st_size  # the soak test's own
        disk = {"disk_mib": (self._disk.used - log) / _MIB} if self._disk else {}
        self.measures.append({"night": self.nights, "answers": self.always_on.reader.answers, **memory, **disk})

    def _note(self, what: str, found: Iterable[str]) -> None:
        for text in found:
            self.violations.append(f"night {self.nights}, {what}: {text}")
            self._say(f"  VIOLATION {self.violations[-1]}")

    def close(self) -> None:
        """End all processes."""
        with ExitStack() as stack:
            for home in (self.home, self.undisturbed):
                stack.callback(home.cool)
            if self.deployed:
                stack.callback(self.deployed.stop)
            if self.always_on:
                stack.callback(self.always_on.stop)
