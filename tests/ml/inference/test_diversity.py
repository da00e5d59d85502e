import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.errors import DataError
from ml.features.genres import genre_sets, jaccard
from ml.inference.diversity import CANDIDATES, Diversity
from ml.inference.engine.top_k import MISSING, TopLists
from ml.inference.held_out import held_out_lists
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from tests.feature_maps import encode_interactions

GENRES = pd.Series(["Drama", "Drama", "Drama|War", "Comedy", "", "Drama"])


def lists(*rows: tuple[list[int], list[float]]) -> TopLists:
    """Return lists of movies with their scores."""
    return TopLists(np.array([row[0] for row in rows], np.int32), np.array([row[1] for row in rows], np.float32))


def test_jaccard_by_hand() -> None:
    similarity = jaccard(genre_sets(["Drama|War", "War", "Comedy|Drama|War", "", ""]))
    expected = [
        [1, 1 / 2, 2 / 3, 0, 0],
        [1 / 2, 1, 1 / 3, 0, 0],
        [2 / 3, 1 / 3, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)


def test_by_hand() -> None:
    # After movie 0: 1 has .7 * .9 - .3, 2 has .7 * .85 - .3 / 2, 3 has .7 * .6, 4 has .7 * .5: 2 is first, then 3.
    found = Diversity(0.3, GENRES).choose(lists(([0, 1, 2, 3, 4], [0.95, 0.9, 0.85, 0.6, 0.5])), 3)
    assert found.movies.tolist() == [[0, 2, 3]]
    np.testing.assert_allclose(found.scores, [[0.95, 0.85, 0.6]])


def test_chosen_movies_are_listed_by_score() -> None:
    # After movie 0, 3 is chosen before 1, and is listed behind it.
    found = Diversity(0.4, GENRES).choose(lists(([0, 1, 3], [0.95, 0.9, 0.6])), 3)
    assert found.movies.tolist() == [[0, 1, 3]]


def test_short_lists_stay_short() -> None:
    nan = float("nan")
    found = Diversity(0.4, GENRES).choose(
        lists(([0, 3, MISSING, MISSING], [0.9, 0.8, nan, nan]), ([MISSING] * 4, [nan] * 4)), 3
    )
    assert found.movies.tolist() == [[0, 3, MISSING], [MISSING] * 3]
    assert np.isnan(found.scores[0, 2])
    assert np.isnan(found.scores[1]).all()


@pytest.mark.parametrize("weight", [0.05, 0.3, 0.9])
def test_many_lists_against_a_plain_loop(weight: float) -> None:
    rng = np.random.default_rng(4)
    genres = pd.Series(["|".join(sorted(rng.choice(list("abcdef"), rng.integers(0, 4), False))) for _ in range(60)])
    movies = np.array([rng.permutation(60)[:20] for _ in range(1500)], np.int32)
    scores = -np.sort(-rng.random((1500, 20)).astype(np.float32), axis=1)
    found = Diversity(weight, genres).choose(TopLists(movies, scores), 5)
    sets = [set(text.split("|")) - {""} for text in genres]
    for user in range(0, 1500, 50):
        chosen = [0]
        while len(chosen) < 5:
            values = {}
            for place in set(range(20)) - set(chosen):
                own = sets[movies[user, place]]
                near = max(len(own & sets[movies[user, c]]) / max(len(own | sets[movies[user, c]]), 1) for c in chosen)
                values[place] = (1 - weight) * scores[user, place] - weight * near
            chosen.append(max(sorted(values), key=values.__getitem__))
        assert found.movies[user].tolist() == movies[user, sorted(chosen)].tolist()


def test_without_diversity_lists_stay_as_they_are() -> None:
    own = lists(([0, 1], [0.9, 0.8]))
    diversity = Diversity(0, GENRES)
    assert diversity.choose(own, 2) is own
    assert (diversity.candidates(10), Diversity(0.1, GENRES).candidates(10)) == (10, 10 * CANDIDATES)


def test_all_lists_of_a_bundle_are_diverse(bundle: ModelBundle, small_interactions: pd.DataFrame) -> None:
    plain, diverse = Scorer(bundle), Scorer(replace(bundle, diversity=0.5))
    [(long, _)] = Recommender(plain, small_interactions).recommend_all([(2002, 6)], 10 * CANDIDATES)
    [(found, _)] = Recommender(diverse, small_interactions).recommend_all([(2002, 6)], 10)
    own = long[long["user_id"] == 5]
    position = {movie: index for index, movie in enumerate(bundle.movies["movie_id"])}
    candidates = lists(([position[movie] for movie in own["movie_id"]], own["score"].tolist()))
    expected = Diversity(0.5, bundle.movies["genres"]).choose(candidates, 10)
    listed = found[found["user_id"] == 5]
    assert listed["movie_id"].tolist() == bundle.movies["movie_id"].iloc[expected.movies[0]].tolist()
    assert listed["movie_id"].tolist() != own["movie_id"].tolist()[:10]
    one = Recommender(diverse, small_interactions).recommend(5, 2002, 6)
    assert one["movie_id"].tolist() == listed["movie_id"].tolist()


def test_held_out_lists_are_those_of_the_bundle(bundle: ModelBundle, small_interactions: pd.DataFrame) -> None:
    encoded = encode_interactions(small_interactions, bundle.feature_map)
    plain, _ = held_out_lists(Scorer(bundle), encoded)
    diverse, _ = held_out_lists(Scorer(replace(bundle, diversity=0.5)), encoded)
    assert len(plain) == len(diverse)
    assert not plain.equals(diverse)


def test_survives_the_file(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    replace(bundle, diversity=0.25).save(path)
    assert ModelBundle.load(path).diversity == 0.25


def without_lists(source: Path, target: Path) -> None:
    """Copy a bundle as an earlier release wrote it."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            if name != "lists.json":
                copy.writestr(name, archive.read(name))


def test_bundles_of_earlier_releases_have_none(bundle: ModelBundle, tmp_path: Path) -> None:
    replace(bundle, diversity=0.25).save(tmp_path / "now.zip")
    without_lists(tmp_path / "now.zip", tmp_path / "then.zip")
    assert ModelBundle.load(tmp_path / "then.zip").diversity == 0


@pytest.mark.parametrize("document", [[], {}, {"diversity": 1.0}, {"diversity": "0"}, {"diversity": 0.1, "more": 1}])
def test_other_values_are_refused(bundle: ModelBundle, tmp_path: Path, document: object) -> None:
    bundle.save(tmp_path / "good.zip")
    without_lists(tmp_path / "good.zip", tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "bad.zip", "a") as archive:
        archive.writestr("lists.json", json.dumps(document))
    with pytest.raises(DataError, match=r"bad\.zip, lists\.json: found .*; expected diversity, a number from 0"):
        ModelBundle.load(tmp_path / "bad.zip")
