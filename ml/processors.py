"""Which processors compute: how many of this machine's, and whether work goes to other machines."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Shared = TypeVar("Shared")
State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")

_granted: list[int] = []  # the last one holds


def available_processors() -> int:
    """Return the number of processors that this process may use."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([own, *_granted[-1:]])


def grant_processors(count: int) -> None:
    """Limit this process to a number of processors, such as what a cluster has granted it on a shared machine."""
    _granted.append(count)


class Each(Protocol):
    """Do independent work for each of many items, on other machines.

    Everything given and returned is copied to the machine that works and back. Work whose machine is lost is done
    again on another one; its result comes once.
    """

    parts: int  # into how many items work is to be divided at least, so that nobody idles

    def __call__(
        self,
        prepare: Callable[[Shared], State],
        work: Callable[[State, Item], Result],
        items: Sequence[Item],
        shared: Shared,
    ) -> Iterator[tuple[int, Result]]:
        """Yield each item's number and result as they are finished, in any order.

        Args:
            prepare: makes, once for each process, what all its work needs.
            work: is done for each item.
            items: what differs.
            shared: what ``prepare`` gets.
        """
        ...
