import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.web import store
from app.web.texts import Texts
from ml.inference import explanations as explanations_module
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.visitors import Visitor, VisitorRecommender
from ml.models.bundle import ModelBundle
from ml.published.purposes import SENTENCES, Purpose
from orchestration.config.settings import PROJECT_ROOT
from tests.app.conftest import MODELS
from tests.published_home import DATASET, MOMENT, table_path, write_tables

USER = 7
Page = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _own_settings(settings: pytest.MonkeyPatch) -> Iterator[None]:
    settings.setattr(store, "_refresh", lambda opened: None)  # networks are loaded by the answers that need them
    # The app uses no component of another package, and to look for some in all that are installed takes seconds.
    settings.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", list)
    yield
    st.cache_resource.clear()


@pytest.fixture
def page() -> Page:
    """Return a function that opens the app at a URL without waiting for networks."""

    def open_page(**query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(PROJECT_ROOT / "app" / "movie_rec_app.py"), default_timeout=60)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        return app

    return open_page


def html_of(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def movies_of(app: AppTest) -> list[list[int]]:
    """Return the movie ids of the lists on the page."""
    lists = re.findall(r'<ol class="rec-list">(.*?)</ol>', html_of(app), re.DOTALL)
    return [[int(movie) for movie in re.findall(r" · (\d+)", own)] for own in lists]


def facts_of(app: AppTest) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html_of(app)))


def table_of(home: Path, model: str, user: int) -> pd.DataFrame:
    table = pd.read_parquet(table_path(home, model))
    return table[table["user_id"] == user].sort_values("rank")


def text_of(app: AppTest) -> str:
    """Return all texts of the page."""
    boxes = [*app.markdown, *app.caption, *app.info, *app.error, *app.warning, *app.title, *app.subheader]
    return "\n".join(box.value for box in boxes) + html_of(app)


def test_landing_page_counts_the_data(page: Page, tables: dict[str, pd.DataFrame]) -> None:
    app = page()
    ratings = tables["ratings"]
    facts = facts_of(app)
    assert facts["users"] == f"{len(tables['users']):,}"
    assert facts["movies"] == f"{len(tables['movies']):,}"
    assert facts["rated movies"] == f"{ratings['movie_id'].nunique():,}"
    assert facts["ratings"] == f"{len(ratings):,}"
    assert "AutoInt+MLP: version 1, lists for February 2003" in text_of(app)


@pytest.mark.parametrize("model", MODELS)
def test_user_page_has_profile_history_and_the_tables_list(
    model: str, page: Page, tables: dict[str, pd.DataFrame], published_home: Path
) -> None:
    app = page(user=str(USER), model=model)
    own = tables["ratings"][tables["ratings"]["user_id"] == USER]
    liked = own[own["rating"] >= 4].sort_values(["timestamp", "movie_id"], ascending=False)
    profile = tables["users"].set_index("user_id").loc[USER]
    assert facts_of(app)["Liked movies"] == f"{len(liked)} of {len(own)} rated"
    assert facts_of(app)["Zip code"] == profile["zip"]
    assert facts_of(app)["Gender"] == {"F": "female", "M": "male"}[profile["gender"]]
    expected = table_of(published_home, model, USER)
    assert movies_of(app) == [expected["movie_id"].tolist()]
    assert f"From the nightly table of version {MODELS[model]}." in text_of(app)
    history = app.dataframe[0].value
    titles = tables["movies"].set_index("movie_id")
    assert history["title"].tolist() == [
        f"{titles['title'][movie]} ({titles['movie_year'][movie]})" for movie in liked["movie_id"]
    ]
    app.toggle[0].set_value(True).run()
    assert len(app.dataframe[0].value) == len(own)


def test_scores_are_shown_as_probabilities_only_if_calibrated(page: Page, published_home: Path) -> None:
    shown = re.findall(r'rec-chance">(\d+)%', html_of(page(user=str(USER), model="autoint")))
    expected = table_of(published_home, "autoint", USER)["score"]
    assert shown == [f"{score:.0%}".rstrip("%") for score in expected]
    app = page(user=str(USER), model="autoint_mlp")
    assert '"rec-chance"' not in html_of(app)
    assert Texts("en")("order_only") in text_of(app)


def test_comparison_marks_movies_in_both_lists(page: Page, published_home: Path) -> None:
    lists = {model: table_of(published_home, model, USER)["movie_id"].tolist() for model in MODELS}
    shared = set.intersection(*map(set, lists.values()))
    app = page(user=str(USER), model=list(MODELS))
    assert movies_of(app) == list(lists.values())
    assert f"{len(shared)} of 10 movies are in both lists." in text_of(app)
    marked = re.findall(r" · (\d+) <b class=\"rec-mark\">", html_of(app))
    assert sorted(map(int, marked)) == sorted([*shared, *shared])


def test_page_opens_on_the_best_model_and_says_what_each_is_for(page: Page, published_home: Path) -> None:
    app = page(user=str(USER))
    assert movies_of(app) == [table_of(published_home, "autoint_mlp", USER)["movie_id"].tolist()]
    assert app.query_params["model"] == "autoint_mlp"
    assert SENTENCES[Purpose.NEXT] in text_of(app)
    assert SENTENCES[Purpose.LIKES] not in text_of(app)
    assert SENTENCES[Purpose.LIKES] in text_of(page(user=str(USER), model="autoint"))
    assert all(SENTENCES[purpose] in text_of(page()) for purpose in (Purpose.NEXT, Purpose.LIKES))


def test_choosing_to_compare_in_the_sidebar(page: Page, published_home: Path) -> None:
    app = page(user=str(USER))
    app.sidebar.selectbox[0].set_value("compare").run()
    expected = [table_of(published_home, model, USER)["movie_id"].tolist() for model in ("autoint_mlp", "autoint")]
    assert movies_of(app) == expected


@pytest.mark.parametrize(
    ("query", "rejected"),
    [
        ({"year": "1987", "month": "13"}, ["year=1987: expected one of 2000, ", "month=13: expected one of 1, 2, "]),
        ({"month": "٣"}, ["month=٣: expected one of 1, "]),
        ({"year": ["2001", "2002"]}, ["year=2001&year=2002: expected one of 2000, "]),
        ({"model": "oracle"}, ["model=oracle: expected one of autoint_mlp, autoint."]),
        ({"model": ["autoint", "oracle"]}, ["model=autoint&model=oracle: expected one of autoint_mlp, autoint."]),
        ({"model": ["autoint", "autoint"]}, ["model=autoint&model=autoint: expected one of"]),
        ({"model": "compare"}, ["model=compare: expected one of"]),
        ({"dataset": "films"}, [f"dataset=films: expected one of {DATASET}."]),
        ({"who": "<b>me</b>"}, ["who=<b>me</b>: expected one of user, visitor."]),
        ({"lang": "xx"}, ["lang=xx: expected one of en, ko."]),
        ({"yaer": "2001"}, ["yaer=2001: unknown parameter; expected one of lang, dataset, who, user, "]),
    ],
    ids=str,
)
def test_invalid_url_is_rejected_and_shows_no_list(
    query: dict[str, str | list[str]], rejected: list[str], page: Page
) -> None:
    app = page(**{"user": str(USER), **query})
    found = [error.value.replace("\\", "") for error in app.error]
    assert len(found) == len(rejected)
    assert all(message in text for message, text in zip(rejected, found, strict=True))
    assert movies_of(app) == []
    assert {name: app.query_params[name] for name in query} == query  # the URL stays, so that it can be corrected
    app.sidebar.selectbox[1].set_value(2001).run()  # a selection in the sidebar replaces the URL
    assert not app.error
    assert len(movies_of(app)) == 1
    assert app.query_params["year"] == "2001"
    assert set(app.query_params) == {"lang", "who", "user", "model", "year", "month"}


def test_rejection_is_in_the_language_of_the_url(page: Page) -> None:
    assert Texts("ko")("rejected_title") in text_of(page(lang="ko", month="13"))


def test_pickers_take_one_at_a_time(page: Page) -> None:
    app = page(who="visitor")
    pickers = [*app.sidebar.multiselect, *app.main.multiselect]
    assert len(pickers) == 2
    assert not any(picker.proto.select_all for picker in pickers)


def test_another_month_is_scored_live(
    page: Page, bundles: dict[str, ModelBundle], tables: dict[str, pd.DataFrame]
) -> None:
    app = page(user=str(USER), model="autoint", year="2001", month="5")
    expected = Recommender(Scorer(bundles["autoint"]), tables["ratings"]).recommend(USER, 2001, 5)
    assert movies_of(app) == [expected["movie_id"].tolist()]
    assert "version 3." in text_of(app)
    assert "for May 2001" in text_of(app)


def test_filter_ranks_all_movies_that_match(
    page: Page, bundles: dict[str, ModelBundle], tables: dict[str, pd.DataFrame]
) -> None:
    app = page(user=str(USER), model="autoint")
    app.sidebar.multiselect[0].set_value(["Drama"]).run()
    movies = tables["movies"]
    dramas = movies.loc[movies["genres"].str.split("|").map(lambda own: "Drama" in own), "movie_id"].tolist()
    recommender = Recommender(Scorer(bundles["autoint"]), tables["ratings"])
    assert movies_of(app) == [recommender.recommend(USER, *MOMENT, among=dramas)["movie_id"].tolist()]


@pytest.mark.parametrize("given", ["x7", "7.5", "-1", "**7**", "1_0", "9" * 5000])
def test_invalid_id_is_rejected_with_the_valid_range(given: str, page: Page) -> None:
    app = page(user=given)
    assert "from 1 to 300" in app.error[0].value.replace("\\", "")


def test_unknown_id_is_rejected_with_the_valid_range(page: Page) -> None:
    assert page(user="99999").error[0].value == Texts("en")("unknown_id", given=99999, first=1, last=300)


def test_user_without_a_list_sees_why(
    page: Page, own_home: Path, tables: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_HOME", str(own_home))
    new = tables["users"].iloc[:1].assign(user_id=1000)
    write_tables(own_home, {"users": pd.concat([tables["users"], new])})
    app = page(user="1000")
    assert "has no list yet" in app.warning[0].value
    assert Texts("en")("no_history") in text_of(app)


def test_visitors_list_is_by_the_stated_rule(
    page: Page, bundles: dict[str, ModelBundle], tables: dict[str, pd.DataFrame]
) -> None:
    app = page(who="visitor", model="autoint")
    assert app.info[0].value == Texts("en")("visitor_nothing")
    likes = tables["ratings"]["movie_id"].value_counts().index[:3].tolist()
    next(box for box in app.main.selectbox if box.label == "Gender").set_value("F").run()
    app.main.multiselect[0].set_value(likes).run()
    assert not app.exception
    recommender = Recommender(Scorer(bundles["autoint"]), tables["ratings"])
    visitors = VisitorRecommender(recommender, tables["users"], tables["ratings"])
    expected = visitors.recommend(Visitor({"gender": "F"}, tuple(likes)), *MOMENT)
    assert movies_of(app) == [expected["movie_id"].tolist()]


def test_explanations_name_liked_movies(
    page: Page, tables: dict[str, pd.DataFrame], published_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        explanations_module, "LEAST_PERSONAL_SHARE", 0
    )  # networks of random weights are hardly personal
    monkeypatch.setattr(explanations_module, "LEAST_SIMILARITY", 0)
    page(user=str(USER), model="autoint")
    model = store.published(str(published_home), DATASET).current.model("autoint")
    explanations = model.live.explanations  # waits until they are computed
    own = tables["ratings"][(tables["ratings"]["user_id"] == USER) & (tables["ratings"]["rating"] >= 4)]
    listed = table_of(published_home, "autoint", USER)["movie_id"].tolist()
    found = explanations.nearest(listed, own["movie_id"].tolist())
    titles = tables["movies"].set_index("movie_id")["title"]
    app = page(user=str(USER), model="autoint")
    shown = re.findall(r'rec-why">Because the user liked “(.*?)”<', html_of(app))
    assert shown == [titles[movie] for movie in found["because"]]
    assert len(shown) > 0


def test_model_with_the_same_list_for_everyone_explains_nothing(
    page: Page, published_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanations_module, "LEAST_PERSONAL_SHARE", 1.1)
    page(user=str(USER), model="autoint")
    _ = store.published(str(published_home), DATASET).current.model("autoint").live.explanations
    app = page(user=str(USER), model="autoint")
    assert Texts("en")("no_explanations") in text_of(app)
    assert '"rec-why"' not in html_of(app)


def test_list_does_not_wait_for_explanations(page: Page) -> None:
    app = page(user=str(USER), model="autoint")
    assert len(movies_of(app)[0]) == 10
    assert Texts("en")("explanations_later") in text_of(app)


def test_korean(page: Page) -> None:
    app = page(user=str(USER), model="autoint", lang="ko")
    assert f"사용자 {USER}" in text_of(app)
    assert "2003년 2월" in text_of(app)
    assert facts_of(app)["성별"] in ("여성", "남성")


def test_url_contains_the_query(page: Page) -> None:
    app = page()
    app.sidebar.text_input[0].set_value(" 12 ").run()
    app.sidebar.selectbox[1].set_value(2001).run()
    assert app.query_params["user"] == "12"
    assert app.query_params["year"] == "2001"
    assert "User 12" in text_of(app)


@pytest.mark.parametrize("damage", ["nothing", "table"])
def test_without_tables_the_page_says_what_to_run(
    damage: str, page: Page, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "nothing":
        monkeypatch.setenv("PIPELINE_HOME", str(tmp_path / "empty"))
    else:
        table_path(own_home, "autoint").write_bytes(b"damaged")
        monkeypatch.setenv("PIPELINE_HOME", str(own_home))
    app = page()
    assert app.title[0].value == "Nothing to show yet"
    assert app.code[0].value == "make run"
    assert ("no model is published" if damage == "nothing" else "top10.parquet") in app.warning[0].value.replace(
        "\\", ""
    )


def test_titles_are_shown_as_they_are(
    page: Page, own_home: Path, published_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_HOME", str(own_home))
    path = table_path(own_home, "autoint")
    table = pd.read_parquet(path)
    table["title"] = "<script>alert(1)</script> & *stars*"
    table.to_parquet(path)
    found = html_of(page(user=str(USER), model="autoint"))
    assert "<script>" not in found
    assert found.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; *stars*") == 10
