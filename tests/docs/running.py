"""How each command of the pages is run to see that it works; on small data, in a home of its own."""

import re
from dataclasses import dataclass
from enum import Enum

from tests.docs.pages import Command


class How(Enum):
    """Who runs a command."""

    HERE = "test_commands.py runs it and expects exit status 0"
    SERVER = "test_commands.py starts it, waits until it answers, and ends it"
    CI = "the continuous integration runs it, or what runs all tests does"
    MINUTES = "test_commands.py asks make what it would do; it takes long, and tests run the same module"
    NOT_HERE = "it installs or needs what not every machine has"


@dataclass(frozen=True)
class Rule:
    """How commands of some form are run.

    Attributes:
        pattern: matches the whole command.
        how: who runs it.
    """

    pattern: str
    how: How


_RULES = (
    Rule(r"make (test|lint|test-real|test-slow|test-browser|test-docs|soak|docs)( NIGHTS=\d+)?", How.CI),
    Rule(r"make run( RETRAIN=1)?", How.HERE),
    Rule(r"make (try|(ui|app) TRY=1)", How.MINUTES),
    Rule(r"make run-temporal", How.HERE),
    Rule(r"make (paper|tune RECIPE=\S+( TRIALS=\d+)?)", How.MINUTES),
    Rule(r"make (rollback|months)", How.MINUTES),
    Rule(r"make (bench(-[a-z0-9-]+)?|help)", How.MINUTES),
    Rule(r"make withdraw( BATCH=\d+)?", How.NOT_HERE),
    Rule(r"make months FIRST=\S+ LAST=\S+", How.HERE),
    Rule(r"make rollback MODEL=autoint VERSION=\d+", How.HERE),
    Rule(r"make (ui|app|serve)", How.SERVER),
    Rule(r"(\S+=\S+ )*make (run|bench-training|paper)", How.MINUTES),
    Rule(r"\.venv/bin/python -m app recommend .*", How.HERE),
    Rule(r"\.venv/bin/pip install .*", How.NOT_HERE),
    Rule(r"PATH=\S+ MLFLOW_TRACKING_URI=\S+ mlflow models serve .*", How.SERVER),
    Rule(r"cp var/mlflow\.db .*|\.venv/bin/mlflow db upgrade .*", How.NOT_HERE),
    Rule(r"curl .*", How.HERE),
    Rule(r"\.venv/bin/streamlit run app/movie_rec_app\.py", How.SERVER),
)
_PYTHON = Rule(".*", How.HERE)


def rule_of(command: Command) -> Rule | None:
    """How a command is run; None where nobody has said it."""
    if command.language == "python":
        return _PYTHON
    text = command.text.replace("<MovieLens-1M>", "DIR")
    return next((rule for rule in _RULES if re.fullmatch(rule.pattern, text)), None)
