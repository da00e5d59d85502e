"""Execute a job once in this process and its children: ``python -m orchestration execute SOURCE SPLIT RUN_TAG``.

Only stale assets are rebuilt, except on the paper's split, whose job always runs in full.
"""

import argparse

from ml.features.splits import SPLITS
from orchestration.config.writer import claim_home
from orchestration.runtime import fork_server
from orchestration.runtime.instance import use_instance


def main(*arguments: str) -> int:
    """Run the split's job on a source of raw data; gives the exit status. Raises DataError."""
    given = _parser().parse_args(arguments)
    claim_home()
    use_instance()
    fork_server.start()
    from orchestration.cli.launch import launch  # takes seconds to import, as the server does meanwhile

    return 0 if launch(given) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestration execute")
    parser.add_argument("source")
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("start_tag")
    parser.add_argument("--retrain", action="store_true", help="train every model again, even if nothing has changed")
    parser.add_argument("--months", nargs=2, help="only rank for the months from the first to the last")
    parser.add_argument("--seed", type=int, help="seed of the trainings, instead of the recipes' own")
    return parser
