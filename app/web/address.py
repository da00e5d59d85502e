"""The page's address: it holds the question, so that it can be reloaded and shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

Value = TypeVar("Value")
NAMES = ("lang", "dataset", "who", "user", "model", "year", "month")
_READ = "address has been read"  # key of the session's state


@dataclass(frozen=True)
class Refused:
    """A part of the address that cannot be used.

    Attributes:
        parameter: name and values.
        expected: the values that could be; none: there is no parameter of this name.
    """

    parameter: str
    expected: tuple[str, ...]


class Address:
    """What the address asks for, read when a session begins; afterwards the widgets say what is asked.

    Nothing in it is guessed at: what cannot be used is refused by name, and until it is replaced nothing is answered.

    Attributes:
        refused: what cannot be used.
    """

    def __init__(self) -> None:
        self._given = (
            {} if _READ in st.session_state else {name: st.query_params.get_all(name) for name in st.query_params}
        )
        self.refused = [
            Refused("&".join(f"{name}={value}" for value in own), ())
            for name, own in self._given.items()
            if name not in NAMES
        ]

    def take(self, name: str, options: Sequence[Value]) -> Value | None:
        """The option that the address names; None where it names none, or one that cannot be."""
        found = self.take_all(name, options, 1)
        return found[0] if found else None

    def take_all(self, name: str, options: Sequence[Value], most: int) -> list[Value]:
        """The options that it names, each once and not more than ``most``; none of them where one cannot be."""
        given = self._given.get(name, [])
        by_text = {str(option): option for option in options}
        if len(given) > most or len(set(given)) < len(given) or not by_text.keys() >= set(given):
            self.refused.append(Refused("&".join(f"{name}={value}" for value in given), tuple(by_text)))
            return []
        return [by_text[value] for value in given]

    def text(self, name: str) -> str:
        """What it says of a field that anything can be typed into, and which is checked like what is typed."""
        given = self._given.get(name, [])
        if len(given) > 1:
            self.refused.append(Refused("&".join(f"{name}={value}" for value in given), (f"{name}=...",)))
        return given[0] if len(given) == 1 else ""

    @staticmethod
    def has_been_read() -> None:
        """From now on the widgets are asked."""
        st.session_state[_READ] = True

    @staticmethod
    def remember(**values: str | list[str]) -> None:
        """Write what is asked; what is empty is left out, as is what means nothing."""
        for name in set(st.query_params) - set(NAMES):
            del st.query_params[name]
        for name, value in values.items():
            if value:
                st.query_params[name] = value
            elif name in st.query_params:
                del st.query_params[name]
