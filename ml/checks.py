"""Checks of tables, trainings and top lists before they are used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

LOSS_NOISE = 0.01  # relative to the loss


@dataclass(frozen=True)
class Finding:
    """Outcome of a check.

    Attributes:
        name: of the check.
        passed: whether it passed.
        facts: the figures that it checked.
    """

    name: str
    passed: bool
    facts: Mapping[str, Any] = field(default_factory=dict)

    def named(self, name: str) -> "Finding":
        """Return the finding under another name, for a check that runs more than once."""
        return replace(self, name=name)


def added(findings: Sequence[Finding]) -> Finding:
    """Return one finding of a check that was made of each block of a table; its figures are their sums."""
    facts = {name: sum(finding.facts[name] for finding in findings) for name in findings[0].facts}
    return Finding(findings[0].name, all(finding.passed for finding in findings), facts)


def row_count(rows: int, expected: int | None) -> Finding:
    """Check that a table is not empty, and has the number of rows that is known for its data set."""
    passed = rows > 0 if expected is None else rows == expected
    return Finding("row_count", passed, {"rows": rows, "expected": "any" if expected is None else expected})


def unique_keys(table: pd.DataFrame, key: Sequence[str]) -> Finding:
    """Check that no two rows have the same key."""
    repeated = int(table.duplicated(list(key)).sum())
    return Finding("unique_keys", repeated == 0, {"key": ", ".join(key), "repeated_rows": repeated})


def complete(table: pd.DataFrame) -> Finding:
    """Check that no value is missing."""
    missing = int(table.isna().sum().sum())
    return Finding("complete", missing == 0, {"missing_values": missing})


def known_keys(ratings: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame) -> Finding:
    """Check that every rating's user and movie are in their tables."""
    lost = {
        key: int((~ratings[key].isin(table[key])).sum()) for key, table in (("user_id", users), ("movie_id", movies))
    }
    return Finding("known_keys", not any(lost.values()), {f"ratings_without_{key}": rows for key, rows in lost.items()})


def cardinalities(names: Sequence[str], sizes: Sequence[int], expected: Sequence[int] | None) -> Finding:
    """Check that every feature has values, and as many as is known for its data set."""
    passed = min(sizes) > 0 if expected is None else tuple(sizes) == tuple(expected)
    return Finding("cardinalities", passed, dict(zip(names, sizes, strict=True)))


def indices_kept(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> Finding:
    """Check that every value has the same index as before: the earlier values come first in each vocabulary.

    Args:
        before: values by feature, in index order.
        now: the same, later.
    """
    changed = [name for name, values in before.items() if tuple(now[name][: len(values)]) != tuple(values)]
    return Finding("indices_kept", not changed, {"features_with_other_indices": ", ".join(changed) or "none"})


def indices_in_range(encoded: pd.DataFrame, names: Sequence[str], field_dims: Sequence[int]) -> Finding:
    """Check that every index is at least 0 and less than its feature's size."""
    indices = encoded[list(names)]
    outside = int(((indices < 0) | (indices >= np.array(field_dims))).to_numpy().sum())
    return Finding("indices_in_range", outside == 0, {"indices_outside": outside})


def whole_split(train: np.ndarray, test: np.ndarray, expected: np.ndarray) -> Finding:
    """Check that training and test rows are disjoint and together exactly the expected ones.

    Args:
        train: positions of the training rows, int [n].
        test: of the test rows.
        expected: which rows must be there, bool [rows].
    """
    counts = np.bincount(np.concatenate([train, test]), minlength=len(expected))
    facts = {
        "training_rows": len(train),
        "test_rows": len(test),
        "rows_twice": int((counts > 1).sum()),
        "rows_lost": int((counts[: len(expected)][expected] == 0).sum()),
        "rows_left_out": int((~expected).sum()),
    }
    return Finding("whole_split", np.array_equal(counts, expected.astype(int)), facts)


def losses_fall(train_losses: Sequence[float], val_losses: Sequence[float], warm: bool = False) -> Finding:
    """Check that all losses are finite, that the training loss falls, and that the validation loss does not rise.

    The latter may rise by ``LOSS_NOISE``: on few rows, it differs by that much from epoch to epoch by chance. A single
    epoch and a warm start only need finite losses: a warm start begins near its end, and can go either way.
    """
    finite = all(math.isfinite(loss) for curve in (train_losses, val_losses) for loss in curve)
    learns = train_losses[-1] < train_losses[0] and val_losses[-1] <= val_losses[0] * (1 + LOSS_NOISE)
    falling = warm or len(train_losses) == 1 or learns
    curves = {"train": train_losses, "val": val_losses}
    facts = {f"{name}_{end}": curve[at] for name, curve in curves.items()
             for end, at in (("first", 0), ("last", -1))}  # fmt: skip
    return Finding("losses_fall", finite and falling, facts)


def both_labels(labels: pd.Series, likes_only: bool = False) -> Finding:
    """Check that there are both labels, since likes cannot be told from dislikes otherwise.

    Args:
        labels: 1 or 0, one per row.
        likes_only: whether every row of the data set is a like; then there must be some.
    """
    liked = int((labels == 1).sum())
    needed = "likes only" if likes_only else "at least one of each"
    passed = 0 < liked == len(labels) if likes_only else 0 < liked < len(labels)
    return Finding("both_labels", passed, {"liked": liked, "not_liked": len(labels) - liked, "needed": needed})


def not_below_random(evaluation: pd.DataFrame, baselines: pd.DataFrame, users: int) -> Finding:
    """Check that no metric is below that of a random order by more than chance, among metrics where higher is better.

    Chance is two standard errors of a mean over the users. The standard deviation of values from 0 to 1 is at most 0.5,
    so the margin is ``1 / sqrt(users)``: .01 for 6,000 users, .14 for 50. A metric without a value for the random
    order, such as the AUC of rows with one label, is not compared.

    Args:
        evaluation: model, metric, value of one model.
        baselines: the same of the baselines, including ``random``.
        users: number of users with test rows.
    """
    own = evaluation.set_index("metric")["value"]
    random = baselines[baselines["model"] == "random"].set_index("metric")["value"]
    margin = 1 / math.sqrt(max(users, 1))
    below = [name for name in random.dropna().index if not own[name] >= random[name] - margin]  # NaN counts as below
    facts = {"metrics_below": ", ".join(below) or "none", "margin": margin}
    return Finding("not_below_random", len(random) > 0 and not below, facts)


def _pairs(rows: pd.DataFrame, users: pd.Index, movies: pd.Index) -> np.ndarray:
    """Return one number for each row's user and movie, int64 [rows]; -1 where one of them is not in the index."""
    user, movie = users.get_indexer(pd.Index(rows["user_id"])), movies.get_indexer(pd.Index(rows["movie_id"]))
    return np.where((user >= 0) & (movie >= 0), user.astype(np.int64) * len(movies) + movie, -1)


def top_lists(
    top: pd.DataFrame, ratings: pd.DataFrame, users: Sequence[Any], movies: Sequence[Any], length: int
) -> Finding:
    """Check that every user has one complete list: distinct unrated movies with falling scores, ``length`` of them.

    A list is shorter if a user has rated all but a few movies. A table without any row fails: there is nothing to
    publish.

    Args:
        top: user_id, rank (from 1), movie_id, score.
        ratings: user_id, movie_id of all ratings.
        users: ids of the users that must have a list.
        movies: ids of the movies that may be listed.
        length: most rows per user.
    """
    ordered = top.sort_values(["user_id", "rank"], kind="stable")
    same_user = ordered["user_id"].eq(ordered["user_id"].shift())
    ranks = ordered.groupby("user_id").cumcount() + 1
    everyone, catalog = pd.Index(users), pd.Index(movies)
    seen = np.unique(_pairs(ratings, everyone, catalog))
    seen = seen[seen >= 0]
    of_user = np.bincount(seen // len(catalog), minlength=len(everyone))
    unseen = pd.Series(len(catalog) - of_user, everyone)
    counts = ordered["user_id"].value_counts().reindex(everyone, fill_value=0)
    facts = {
        "users": len(counts),
        "rows": len(ordered),
        "shorter_lists": int((unseen < length).sum()),
        "lists_of_wrong_length": int((counts != unseen.clip(upper=length)).sum()),
        "rows_of_other_users": int((~ordered["user_id"].isin(users)).sum()),
        "rows_of_other_movies": int((~ordered["movie_id"].isin(movies)).sum()),
        "wrong_ranks": int((ordered["rank"] != ranks).sum()),
        "repeated_movies": int(ordered.duplicated(["user_id", "movie_id"]).sum()),
        "rising_scores": int((same_user & (ordered["score"] > ordered["score"].shift())).sum()),
        "scores_outside_0_to_1": int((~ordered["score"].between(0, 1)).sum()),
        "rated_movies": int(np.isin(_pairs(ordered, everyone, catalog), seen, kind="sort").sum()),
    }
    defects = list(facts.values())[3:]
    return Finding("top_lists", len(ordered) > 0 and not any(defects), facts)
