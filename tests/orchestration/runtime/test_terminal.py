import io
import json
import sys
from pathlib import Path

import pytest

from app.__main__ import main as ask
from orchestration.runtime.terminal import tolerate_any_terminal
from tests.orchestration.conftest import Pipeline


def terminal(env: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """Standard output of another encoding."""
    written = io.BytesIO()
    env.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    return written


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", rb"For\xeat"), ("utf-8", "Forêt".encode())])
def test_titles_are_shown_on_any_terminal(env: pytest.MonkeyPatch, encoding: str, expected: bytes) -> None:
    written = terminal(env, encoding)
    tolerate_any_terminal()
    sys.stdout.write("Forêt")
    assert written.getvalue() == expected


def test_json_is_json_on_any_terminal(pipeline: Pipeline, env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = ["recommend", "--user", "3", "--year", "2001", "--month", "5", "--k", "200", "--json"]
    answers = []
    for encoding in ("ascii", "utf-8"):
        written = terminal(env, encoding)
        assert ask(asked) == 0
        answers.append(json.loads(written.getvalue().decode(encoding)))
    assert answers[0] == answers[1]
    assert any(not movie["title"].isascii() for movie in answers[0])
