"""The command line: ``python -m app recommend --user 3 --year 2001 --month 5``."""

import argparse
import os
import sys
from collections.abc import Sequence

from ml.errors import DataError, NotFoundError
from orchestration.runtime.terminal import has_all_characters, tolerate_any_terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    tolerate_any_terminal()
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hide TensorFlow's startup messages
    try:
        _recommend(options)
    except (NotFoundError, DataError) as error:
        sys.stderr.write(f"error: {error.args[0]}\n")
        return 1
    return 0


def _recommend(options: argparse.Namespace) -> None:
    """Print the list on standard output; model and purpose on standard error."""
    from pandas.api.types import is_string_dtype
    from upath import UPath

    from ml.published.champions import chosen_dataset
    from ml.published.people import parse_user_id
    from ml.published.purposes import SENTENCES, published_purposes
    from ml.published.recommendations import get_recommendations
    from orchestration.config.settings import settings

    home = UPath(options.home) if options.home else settings().home
    dataset = chosen_dataset(home, options.dataset or settings().serve_dataset)
    purposes = published_purposes(home, dataset)
    model = options.model or next(iter(purposes))
    user_id = parse_user_id(options.user, home, dataset)
    top = get_recommendations(user_id, options.year, options.month, model, options.k, home=str(home), dataset=dataset)
    columns = top[["rank", "movie_id", "title", "genres", "score"]]
    texts = [position for position, name in enumerate(columns) if is_string_dtype(columns[name])]
    text = (
        columns.to_json(orient="records", force_ascii=not has_all_characters(), indent=2)
        if options.json
        # Without disable_numparse, the id "1e5" would be printed as a number.
        else columns.to_markdown(index=False, tablefmt="simple", floatfmt=".4f", disable_numparse=texts)
    )
    sys.stderr.write(f"{model}: {SENTENCES[purposes[model]]}\n")
    sys.stdout.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Query the published models.")
    commands = parser.add_subparsers(required=True, metavar="command")
    recommend = commands.add_parser("recommend", help="the top movies for one user")
    recommend.add_argument("--user", required=True, help="user id, as in the data set")
    recommend.add_argument("--year", type=int, required=True, help="year to recommend for")
    recommend.add_argument("--month", type=int, required=True, help="month to recommend for, 1-12")
    recommend.add_argument(
        "--model",
        help="name of a recipe (default: the published model that best predicts what a user will watch next)",
    )
    recommend.add_argument("--k", type=_positive, default=10, help="number of movies (default: 10)")
    recommend.add_argument("--json", action="store_true", help="print JSON instead of a table")
    recommend.add_argument("--home", help="the pipeline's home (default: PIPELINE_HOME, else var)")
    recommend.add_argument("--dataset", help="data set (default: SERVE_DATASET, else the only published one)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
