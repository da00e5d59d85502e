"""The command line: ``python -m ml recommend --user 3 --year 2001 --month 5 --model autoint``."""

import argparse
import os
import sys
from collections.abc import Sequence

from ml.errors import DataError, NotFoundError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would drown the answer
    try:
        _recommend(options)
    except (NotFoundError, DataError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _recommend(options: argparse.Namespace) -> None:
    from ml.inference.recommend import get_recommendations  # noqa: PLC0415 - --help must not wait for Keras

    top = get_recommendations(
        options.user, options.year, options.month, options.model, options.k, home=options.home, dataset=options.dataset
    )
    columns = top[["rank", "movie_id", "title", "genres", "score"]]
    text = (
        columns.to_json(orient="records", force_ascii=False, indent=2)
        if options.json
        else columns.to_markdown(index=False, tablefmt="simple", floatfmt=".4f")
    )
    sys.stdout.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ml", description="Ask the published models.")
    commands = parser.add_subparsers(required=True, metavar="command")
    recommend = commands.add_parser("recommend", help="the top movies for one user")
    recommend.add_argument("--user", type=int, required=True, help="user id")
    recommend.add_argument("--year", type=int, required=True, help="year of the imagined rating")
    recommend.add_argument("--month", type=int, required=True, help="month of the imagined rating, 1-12")
    recommend.add_argument("--model", required=True, help="autoint or autoint_mlp")
    recommend.add_argument("--k", type=_positive, default=10, help="how many movies (default: 10)")
    recommend.add_argument("--json", action="store_true", help="print JSON instead of a table")
    recommend.add_argument("--home", default="var", help="the pipeline's home (default: var)")
    recommend.add_argument("--dataset", help="data set (default: the only one that is published)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
