"""Read and write the page's URL: it contains the query, so that the page can be reloaded and shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

Value = TypeVar("Value")
NAMES = ("lang", "dataset", "who", "user", "model", "year", "month")
_READ = "address has been read"  # key of the session state


@dataclass(frozen=True)
class Rejected:
    """A parameter of the URL that is not valid.

    Attributes:
        parameter: name and values, as in the URL.
        expected: the valid values; empty if there is no parameter of this name.
    """

    parameter: str
    expected: tuple[str, ...]


class Address:
    """The URL's parameters, read when a session starts; afterwards the widgets hold the query.

    Nothing is guessed: an invalid parameter is rejected by name, and the page shows no results until it is replaced.

    Attributes:
        rejected: the invalid parameters.
    """

    def __init__(self) -> None:
        self._given = (
            {} if _READ in st.session_state else {name: st.query_params.get_all(name) for name in st.query_params}
        )
        self.rejected = [
            Rejected("&".join(f"{name}={value}" for value in own), ())
            for name, own in self._given.items()
            if name not in NAMES
        ]

    def take(self, name: str, options: Sequence[Value]) -> Value | None:
        """Return the option that the URL names; None if it names none, or an invalid one."""
        found = self.take_all(name, options, 1)
        return found[0] if found else None

    def take_all(self, name: str, options: Sequence[Value], most: int) -> list[Value]:
        """Return the options that the URL names, at most ``most``; an empty list if one is invalid or repeated."""
        given = self._given.get(name, [])
        by_text = {str(option): option for option in options}
        if len(given) > most or len(set(given)) < len(given) or not by_text.keys() >= set(given):
            self.rejected.append(Rejected("&".join(f"{name}={value}" for value in given), tuple(by_text)))
            return []
        return [by_text[value] for value in given]

    def text(self, name: str) -> str:
        """Return the value of a free text parameter; it is validated like typed text."""
        given = self._given.get(name, [])
        if len(given) > 1:
            self.rejected.append(Rejected("&".join(f"{name}={value}" for value in given), (f"{name}=...",)))
        return given[0] if len(given) == 1 else ""

    @staticmethod
    def mark_read() -> None:
        """Ignore the URL from now on: the widgets hold the query."""
        st.session_state[_READ] = True

    @staticmethod
    def write(**values: str | list[str]) -> None:
        """Write the query into the URL, without empty values; remove unknown parameters."""
        for name in set(st.query_params) - set(NAMES):
            del st.query_params[name]
        for name, value in values.items():
            if value:
                st.query_params[name] = value
            elif name in st.query_params:
                del st.query_params[name]
