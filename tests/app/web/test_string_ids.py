"""Test that the pages show the same for a data set with strings as ids."""

import re
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.web import store
from app.web.texts import Texts
from app.web.widgets import plain
from ml.inference import explanations as explanations_module
from orchestration.config.settings import PROJECT_ROOT
from tests.published_home import DATASET, table_path, write_tables
from tests.string_ids import movie_name, user_name

USER = 7
Page = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _own_settings(settings: pytest.MonkeyPatch, home_of_strings: Path) -> Iterator[None]:
    settings.setenv("PIPELINE_HOME", str(home_of_strings))
    settings.setattr(store, "_refresh", lambda opened: None)
    settings.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", list)
    yield
    st.cache_resource.clear()


def page(**query: str | list[str]) -> AppTest:
    app = AppTest.from_file(str(PROJECT_ROOT / "app" / "movie_rec_app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def html_of(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def movies_of(app: AppTest) -> list[str]:
    return [unescape(movie) for movie in re.findall(r" · (m/.*?)(?: <b|</div>)", html_of(app))]


def listed(home: Path, model: str) -> list[str]:
    """Return the user's list of the published home with integers, with names."""
    table = pd.read_parquet(table_path(home, model))
    own = table[table["user_id"] == USER].sort_values("rank")
    return [movie_name(movie) for movie in own["movie_id"]]


def test_landing_page_and_hint() -> None:
    app = page()
    assert app.info[0].value == Texts("en")("begin_string")
    assert app.sidebar.text_input[0].placeholder == f"For example {user_name(1)}"
    korean = page(lang="ko")
    assert korean.sidebar.text_input[0].label == "사용자 ID"
    assert "사용자 ID를 입력" in korean.info[0].value


def test_user_page_has_the_same_list(published_home: Path) -> None:
    app = page(user=user_name(USER), model="autoint")
    assert app.title[0].value == f"User {plain(user_name(USER))}"
    assert movies_of(app) == listed(published_home, "autoint")
    assert len(movies_of(app)) == 10
    assert not app.dataframe[0].value.empty


def test_comparison_marks_the_same_movies(published_home: Path) -> None:
    app = page(user=user_name(USER), model=["autoint", "autoint_mlp"])
    lists = [listed(published_home, model) for model in ("autoint", "autoint_mlp")]
    assert movies_of(app) == [*lists[0], *lists[1]]
    assert html_of(app).count('"rec-mark"') == 2 * len({*lists[0]} & {*lists[1]})


def test_typed_id_is_found_with_spaces_around_it_and_kept_in_the_url(published_home: Path) -> None:
    app = page(model="autoint")
    app.sidebar.text_input[0].set_value(f"  {user_name(USER)} ").run()
    assert movies_of(app) == listed(published_home, "autoint")
    assert app.query_params["user"] == user_name(USER)


def test_filter_and_another_month_rank_live() -> None:
    app = page(user=user_name(USER), model="autoint", year="2001", month="5")
    app.sidebar.multiselect[0].set_value(["Drama"]).run()
    assert not app.exception
    assert len(movies_of(app)) == 10


@pytest.mark.parametrize("given", ["7", "**7**", "<b>", "없음"])
def test_unknown_id_is_rejected_with_an_example(given: str) -> None:
    for language in ("en", "ko"):
        message = page(user=given, lang=language).error[0].value
        shown = Texts(language)("unknown_id_string", given=plain(given), first=plain(user_name(1)))
        assert message == shown


def test_too_long_text_is_rejected() -> None:
    assert "at most 200 characters" in page(user="x" * 201).error[0].value.replace("\\", "")


def test_explanations_name_liked_movies(home_of_strings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanations_module, "LEAST_PERSONAL_SHARE", 0)
    monkeypatch.setattr(explanations_module, "LEAST_SIMILARITY", 0)
    page(user=user_name(USER), model="autoint")
    _ = store.published(str(home_of_strings), DATASET).current.model("autoint").live.explanations
    assert 'rec-why">Because the user liked “' in html_of(page(user=user_name(USER), model="autoint"))


def test_visitor_gets_a_list_by_liked_movies(tables: dict[str, pd.DataFrame]) -> None:
    likes = tables["ratings"]["movie_id"].value_counts().index[:3].map(movie_name).tolist()
    app = page(who="visitor", model="autoint")
    app.main.multiselect[0].set_value(likes).run()
    assert not app.exception
    assert len(movies_of(app)) == 10
    assert not {*movies_of(app)} & {*likes}


def test_pages_leave_out_what_the_data_set_does_not_tell(
    home_of_strings: Path, tmp_path: Path, settings: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "shop"
    shutil.copytree(home_of_strings, home)
    settings.setenv("PIPELINE_HOME", str(home))
    tables = {
        name: pd.read_parquet(home / "tables" / DATASET / f"{name}.parquet") for name in ("users", "movies", "ratings")
    }
    write_tables(
        home,
        {
            "users": tables["users"][["user_id"]].assign(country="NL"),
            "movies": tables["movies"].assign(genres="", movie_year=0),
            "ratings": tables["ratings"].assign(timestamp=0, rating=1, label=1),
        },
    )
    landing = page()
    assert "1970" not in html_of(landing) + "".join(line.value for line in landing.markdown)
    user = page(user=user_name(USER), model="autoint")
    assert "<dt>country</dt><dd>NL</dd>" in html_of(user)
    assert user.subheader[0].value == "Top unseen movies"
    assert list(user.dataframe[0].value.columns) == ["title"]
    assert not user.toggle
    assert [box.label for box in user.sidebar.selectbox] == ["Model"]
    assert not user.sidebar.multiselect
    visitor = page(who="visitor", model="autoint")
    assert [box.label for box in visitor.main.selectbox] == ["country"]
