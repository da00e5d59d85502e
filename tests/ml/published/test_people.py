import pandas as pd
import pytest

from ml.errors import NotFoundError
from ml.published.people import People

MARCH, APRIL = 951_868_800, 954_547_200  # 1 March and 1 April 2000, 0:00 UTC


@pytest.fixture
def people() -> People:
    users = pd.DataFrame(
        {"user_id": [3, 1], "gender": ["M", "F"], "age": [25, 1], "occupation": [15, 10], "zip": ["55117", "00231"]}
    )
    movies = pd.DataFrame(
        {
            "movie_id": [8, 9],
            "title": ["Ann", "Bob"],
            "movie_year": [1990, 1995],
            "genres": ["Drama|War", "Comedy"],
        }
    )
    rows = [(3, 8, 4, MARCH), (3, 9, 3, APRIL), (1, 9, 5, APRIL), (3, 77, 5, APRIL), (44, 8, 5, APRIL)]
    return People(users, movies, pd.DataFrame(rows, columns=["user_id", "movie_id", "rating", "timestamp"]))


def test_profile_keeps_the_zeros_of_a_zip(people: People) -> None:
    assert people.profile(1) == {"gender": "F", "age": 1, "occupation": 10, "zip": "00231"}


def test_history_begins_with_the_latest_and_leaves_out_movies_that_are_not_there_yet(people: People) -> None:
    history = people.history(3)
    assert history["title"].tolist() == ["Bob", "Ann"]
    assert history["liked"].tolist() == [False, True]
    assert history["when"].tolist() == [pd.Timestamp("2000-04-01", tz="UTC"), pd.Timestamp("2000-03-01", tz="UTC")]


@pytest.mark.parametrize("user", [0, 2, 4, 44])
def test_unknown_user_is_refused_with_the_known_ones(user: int, people: People) -> None:
    for ask in (people.profile, people.history):
        with pytest.raises(NotFoundError, match=f"unknown user_id {user}; there are 2 users from 1 to 3"):
            ask(user)


def test_years_months_and_ids(people: People) -> None:
    assert (people.years, people.months, people.first_and_last) == ([2000], [3, 4], (1, 3))


def test_genres_are_listed_once(people: People) -> None:
    assert people.genres == ["Comedy", "Drama", "War"]


@pytest.mark.parametrize(
    ("genres", "released", "expected"),
    [
        ([], (1900, 2100), [8, 9]),
        (["War", "Comedy"], (1900, 2100), [8, 9]),
        (["War"], (1900, 2100), [8]),
        (["War"], (1991, 2100), []),
        ([], (1995, 1995), [9]),
    ],
)
def test_movies_of_some_genre_and_years(
    genres: list[str], released: tuple[int, int], expected: list[int], people: People
) -> None:
    assert people.matching(genres, released) == expected


def test_strings_are_sorted_and_found_literally(people: People) -> None:
    users, movies = {3: "B", 1: "a", 44: "c"}, {8: "A/12 blue", 9: "9", 77: "x"}
    ratings = people.ratings.assign(
        user_id=people.ratings["user_id"].map(users), movie_id=people.ratings["movie_id"].map(movies)
    )
    named = People(
        people.users.reset_index().assign(user_id=["a", "B"]),
        people.movies.reset_index().assign(movie_id=["A/12 blue", "9"]),
        ratings.sample(frac=1, random_state=1),
    )
    assert (named.user_id_type, named.movie_id_type, named.first_and_last) == (str, str, ("B", "a"))
    assert (people.user_id_type, people.movie_id_type) == (int, int)
    assert named.profile("a") == people.profile(1)
    assert named.history("B")["title"].tolist() == people.history(3)["title"].tolist()
    assert named.history("B")["movie_id"].tolist() == ["9", "A/12 blue"]
    assert named.matching(["War"], (1900, 2100)) == ["A/12 blue"]
    for unknown in ("b", "1", 1):
        with pytest.raises(NotFoundError) as caught:
            named.profile(unknown)
        assert caught.value.args[0] == f"unknown user_id {unknown!r}; there are 2 users from 'B' to 'a'"


def test_profile_has_whatever_the_data_set_tells(people: People) -> None:
    users = pd.DataFrame({"user_id": ["a", "b"], "country": ["NL", "FR"], "segment": ["x", "x"]})
    shop = People(users, people.movies.reset_index(), people.ratings.iloc[:0])
    assert shop.profile("b") == {"country": "FR", "segment": "x"}
    assert shop.choices(most=2) == {"country": ["FR", "NL"], "segment": ["x"]}
    assert shop.choices(most=1) == {"segment": ["x"]}


def test_visitors_cannot_tell_what_would_tell_users_apart(people: People) -> None:
    users = pd.DataFrame({"user_id": range(51), "zip": range(51), "age": [n % 50 for n in range(51)]})
    shop = People(users, people.movies.reset_index(), people.ratings.iloc[:0])
    assert shop.visitor_choices == {"age": list(range(50))}


@pytest.mark.parametrize(("ratings", "times"), [(True, True), (False, True), (True, False), (False, False)])
def test_ratings_and_times_are_told_from_likes_alone(ratings: bool, times: bool, people: People) -> None:
    rows = people.ratings.assign(**({} if ratings else {"rating": 1}), **({} if times else {"timestamp": 0}))
    found = People(people.users.reset_index(), people.movies.reset_index(), rows)
    assert (found.has_ratings, found.has_times) == (ratings, times)
