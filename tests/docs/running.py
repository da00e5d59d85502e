"""Define how the tests run each command of the pages: on small data, in a separate home."""

import re
from dataclasses import dataclass
from enum import Enum

from tests.docs.pages import Command


class How(Enum):
    """How a command is tested."""

    HERE = "test_commands.py runs it and expects exit status 0"
    SERVER = "test_commands.py starts it, waits until it responds, and stops it"
    CI = "continuous integration runs it, or the same code"
    MINUTES = "too slow to run: test_commands.py does a dry run with make; other tests cover the module"
    NOT_HERE = "it installs software, or needs something that not every machine has"


@dataclass(frozen=True)
class Rule:
    """How commands that match a pattern are tested.

    Attributes:
        pattern: matches the whole command.
        how: how it is tested.
    """

    pattern: str
    how: How


_RULES = (
    Rule(r"sudo .*|SERVE_HOST=.* make serve|SERVE_TRACES=.* make serve|.*(>> \S*api-keys|\$KEY).*", How.NOT_HERE),
    Rule(
        r"make (test(-real|-slow|-cluster|-images|-servers|-browser|-docs)?|lint|format|docs)"
        r"|make soak( NIGHTS?=\d+)?( SEED=\d+)?( FROM=\d+)?",
        How.CI,
    ),
    Rule(r"make run( RETRAIN=1)?", How.HERE),
    Rule(r"make (try( RECIPES_YAML=\S+)?|(ui|app) TRY=1)", How.MINUTES),
    Rule(r"make run-temporal", How.HERE),
    Rule(r"make (paper|tune RECIPE=\S+( TRIALS=\d+)?)", How.MINUTES),
    Rule(r"make (rollback|months|export)", How.MINUTES),
    Rule(r"make (bench(-[a-z0-9-]+)?|help)", How.MINUTES),
    Rule(r"make withdraw( BATCH=\d+)?", How.NOT_HERE),
    Rule(r"make months FIRST=\S+ LAST=\S+", How.HERE),
    Rule(r"make rollback MODEL=autoint VERSION=\d+", How.HERE),
    Rule(r"make export MODEL=autoint", How.HERE),
    Rule(r"make images( ARGS='[^']+')?|docker (build|run) .* recommender-\S+( .*)?", How.NOT_HERE),
    Rule(r"\.venv/bin/pip-audit .*", How.NOT_HERE),
    Rule(r"docker run .* tensorflow/serving|curl http://127\.0\.0\.1:8502/.*", How.NOT_HERE),
    Rule(r"make (ui|app|serve|metrics)", How.SERVER),
    Rule(r"SCHEDULE_DATASETS=\S+ make ui", How.MINUTES),
    Rule(r"(\S+=\S+ )*make (run|bench-training|paper)", How.MINUTES),
    Rule(r"(\S+=\S+ )*make run DATASET=\S+", How.MINUTES),  # test_shop.py runs the example of datasets.md
    Rule(r"\.venv/bin/python -m app recommend .*", How.HERE),
    Rule(r"\.venv/bin/pip install .*", How.NOT_HERE),
    Rule(r"PATH=\S+ MLFLOW_TRACKING_URI=\S+ mlflow models serve .*", How.SERVER),
    Rule(r"cp var/mlflow\.db .*|\.venv/bin/mlflow db upgrade .*", How.NOT_HERE),
    # tests/servers starts the same servers; there is no Docker daemon on every machine.
    Rule(
        r"(cp|chmod) .*deploy/\.env|docker compose --file deploy/compose\.yaml .*|pg_dump .*|pg_restore .*",
        How.NOT_HERE,
    ),
    Rule(r"export (PGPASSWORD|MLFLOW_AUTH|DAGSTER)_?.*|PGHOST=.* sh deploy/create-databases\.sh", How.NOT_HERE),
    Rule(r"\.venv/bin/(mlflow server|python -m mlflow|dagster[ -]).*", How.NOT_HERE),
    Rule(r"curl .*", How.HERE),
    Rule(r"\.venv/bin/streamlit run app/movie_rec_app\.py", How.SERVER),
)
_PYTHON = Rule(".*", How.HERE)


def rule_of(command: Command) -> Rule | None:
    """Return how a command is tested; None if no rule matches."""
    if command.language == "python":
        return _PYTHON
    text = command.text.replace("<MovieLens-1M>", "DIR")
    return next((rule for rule in _RULES if re.fullmatch(rule.pattern, text)), None)
