"""Use the web app as a person does, in Chromium (``make test-browser``)."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from upath import UPath

from ml.published.champions import ModelArchive, published_models
from ml.published.purposes import SENTENCES, Purpose
from orchestration.config.settings import Settings
from tests.browser import PHONE, chromium, fits_width, keep, open_page, server
from tests.published_home import DATASET
from tests.waiting import free_port, until

pytestmark = pytest.mark.browser

REAL = "ml-1m"
SECONDS = 60_000  # for what waits for networks to be loaded, in ms
expect.set_options(timeout=SECONDS)
Visit = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def visiting(browser: Browser, home: str | Path, dataset: str) -> Iterator[Visit]:
    """Open the app of a home at a path; the page must show no error."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = {"PIPELINE_HOME": home, "SERVE_DATASET": dataset, "APP_PORT": port}

    @contextmanager
    def visit(path: str = "", size: tuple[int, int] = (1280, 900)) -> Iterator[Page]:
        with open_page(browser, size) as page:
            page.set_default_timeout(SECONDS)
            page.goto(f"{address}/{path}")
            yield page
            assert page.get_by_text("encountered an error").count() == 0

    with server("app.web", f"{address}/_stcore/health", variables):
        yield visit


@pytest.fixture(scope="module")
def small(browser: Browser, published_home: Path) -> Iterator[Visit]:
    """Visit the small home of the quick tests."""
    yield from visiting(browser, published_home, DATASET)


@pytest.fixture(scope="module")
def real(browser: Browser) -> Iterator[Visit]:
    """Visit what ``make run`` has published for MovieLens-1M."""
    home = Settings().home
    if not published_models(home, REAL):
        pytest.skip(f"no model of {REAL} is published under {home}; run make run on MovieLens-1M first")
    yield from visiting(browser, str(home), REAL)


def rows(page: Page) -> list[int]:
    """Return the movie ids of the page's lists, one list after the other."""
    expect(page.locator(".rec-list li").first).to_be_visible()
    return [int(text.split("·")[-1].split()[0]) for text in page.locator(".rec-about").all_inner_texts()]


def shows(page: Page, movies: list[int]) -> None:
    """Wait until the page lists these movies."""
    until(lambda: rows(page) == movies)


def settled(page: Page) -> None:
    """Wait until the page has stopped running."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a select box in the sidebar."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def enter_user(page: Page, user: str) -> None:
    page.get_by_label("User ID").fill(user)
    page.get_by_role("button", name="Recommend").click()
    settled(page)


def table(home: Path, model: str, user: int) -> list[int]:
    champion = ModelArchive(UPath(home), DATASET, model).champion()
    assert champion is not None
    found = pd.read_parquet(champion.table)
    return [int(movie) for movie in found[found["user_id"] == user].sort_values("rank")["movie_id"]]


def test_search_and_comparison_by_clicking(small: Visit, published_home: Path) -> None:
    with small() as page:
        expect(page.get_by_role("heading", name="Movie recommender")).to_be_visible()
        enter_user(page, "7")
        expect(page.get_by_role("heading", name="User 7")).to_be_visible()
        shows(page, table(published_home, "autoint_mlp", 7))
        expect(page.get_by_text(SENTENCES[Purpose.NEXT])).to_be_visible()
        choose(page, "Model", "AutoInt")
        shows(page, table(published_home, "autoint", 7))
        choose(page, "Model", "Compare two")
        both = table(published_home, "autoint_mlp", 7), table(published_home, "autoint", 7)
        shows(page, [*both[0], *both[1]])
        shared = set(both[0]) & set(both[1])
        expect(page.get_by_text(f"{len(shared)} of 10 movies are in both lists.")).to_be_visible()
        assert page.locator(".rec-mark").count() == 2 * len(shared)
        page.reload()
        shows(page, [*both[0], *both[1]])  # the URL contains the query


def test_no_tables_yet(browser: Browser, tmp_path: Path, published_home: Path) -> None:
    home = tmp_path / "home"
    for visit in visiting(browser, home, DATASET):
        with visit() as page:
            expect(page.get_by_role("heading", name="Nothing to show yet")).to_be_visible()
            expect(page.get_by_text("make run", exact=True)).to_be_visible()
            home.symlink_to(published_home)
            page.reload()
            expect(page.get_by_role("heading", name="Movie recommender")).to_be_visible()


def test_invalid_url(small: Visit, screenshots: Path) -> None:
    with small("?user=7&year=1987&month=13") as page:
        expect(page.get_by_text("year=1987: expected one of 2000,")).to_be_visible()
        expect(page.get_by_text("month=13: expected one of 1, 2,")).to_be_visible()
        settled(page)
        keep(page, screenshots, "refused")
        assert "month=13" in page.url
        choose(page, "Month", "May")
        expect(page.get_by_role("heading", name="for May 2003")).to_be_visible()
        assert "month=5" in page.url


def test_visitor_picks_one_movie_with_enter(small: Visit, screenshots: Path) -> None:
    with small("?who=visitor") as page:
        picker = page.get_by_label("Movies you like")
        picker.fill("a")
        expect(page.get_by_role("option").nth(5)).to_be_visible()
        picker.press("Enter")
        settled(page)
        keep(page, screenshots, "picker")
        expect(page.locator(".stMain .stMultiSelect .react-aria-ComboBox [data-tag]")).to_have_count(1)


def test_invalid_ids(small: Visit) -> None:
    with small("?user=seven") as page:
        expect(page.get_by_text("User IDs are whole numbers from 1 to 300.")).to_be_visible()
        enter_user(page, "99999")
        expect(page.get_by_text("User IDs range from 1 to 300.")).to_be_visible()
        enter_user(page, "3")
        expect(page.get_by_role("heading", name="User 3")).to_be_visible()


@pytest.mark.parametrize(
    ("user", "facts"),
    [
        (2, ("male", "56 or over", "self-employed", "70072", "73 of 129 rated")),
        (3, ("male", "25 to 34", "scientist", "55117", "37 of 51 rated")),
    ],
)
def test_profiles_on_the_real_data(user: int, facts: tuple[str, ...], real: Visit, screenshots: Path) -> None:
    with real(f"?user={user}&model=autoint_collaborative") as page:
        for fact in facts:
            expect(page.locator(".rec-facts").get_by_text(fact, exact=True)).to_be_visible()
        assert len(rows(page)) == 10
        expect(page.locator(".rec-why").first).to_be_visible(timeout=3 * SECONDS)  # explanations have been computed
        settled(page)
        keep(page, screenshots, "user" if user == 2 else f"user-{user}")


@pytest.mark.parametrize("model", ["autoint", "autoint_mlp", "autoint_collaborative", "autoint_catalogue"])
def test_each_model_and_a_month_that_is_not_precomputed(model: str, real: Visit) -> None:
    with real(f"?user=3&model={model}") as page:
        assert len(rows(page)) == 10
        expect(page.get_by_text("From the nightly table of version")).to_be_visible()
        choose(page, "Year", "2001")
        choose(page, "Month", "May")
        expect(page.get_by_text("Scored live by version")).to_be_visible()
        expect(page.get_by_role("heading", name="for May 2001")).to_be_visible()
        assert len(rows(page)) == 10


def test_comparison_on_the_real_data(real: Visit, screenshots: Path) -> None:
    with real("?user=3&model=autoint_collaborative&model=autoint_catalogue") as page:
        expect(page.locator(".rec-list li")).to_have_count(20)  # the second list comes after the first
        expect(page.get_by_text(re.compile(r"\d of 10 movies are in both lists"))).to_be_visible()
        expect(page.locator(".rec-why").nth(15)).to_be_visible(timeout=3 * SECONDS)
        settled(page)
        keep(page, screenshots, "comparison")


def test_filters(real: Visit) -> None:
    with real("?user=3&model=autoint_collaborative") as page:
        page.get_by_text("Filter movies").click()
        page.get_by_label("Genres").click()
        page.get_by_role("option", name="Film-Noir").click()
        expect(page.get_by_text("Scored live by version")).to_be_visible()
        settled(page)
        assert all("Film-Noir" in about for about in page.locator(".rec-about").all_inner_texts())
        assert len(rows(page)) == 10


def test_visitor_without_history(real: Visit, screenshots: Path) -> None:
    with real("?model=autoint_catalogue") as page:
        page.get_by_text("A visitor", exact=True).click()
        expect(page.get_by_role("heading", name="Recommendations without a history")).to_be_visible()
        choose(page, "Age", "25 to 34")
        page.get_by_label("Movies you like").fill("Toy Story (1995)")
        page.get_by_role("option", name="Toy Story (1995)").click()
        settled(page)
        page.keyboard.press("Escape")
        first = rows(page)
        assert len(first) == 10
        assert 1 not in first  # Toy Story
        expect(page.locator(".rec-why").first).to_be_visible(timeout=3 * SECONDS)
        settled(page)
        keep(page, screenshots, "visitor")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "?user=2&model=autoint_collaborative",
        "?user=3&model=autoint&model=autoint_mlp",
        "?who=visitor",
        "?user=seven",
    ],
)
def test_phone_width(path: str, real: Visit, screenshots: Path) -> None:
    with real(path, PHONE) as page:
        settled(page)
        expect(page.get_by_role("heading").first.or_(page.get_by_role("alert").first)).to_be_visible()
        assert fits_width(page)
        if "collaborative" in path:
            expect(page.locator(".rec-why").first).to_be_visible(timeout=3 * SECONDS)
            assert fits_width(page)
            keep(page, screenshots, "phone")


def test_korean(real: Visit, screenshots: Path) -> None:
    with real("?user=2&model=autoint_collaborative") as page:
        page.get_by_text("한국어", exact=True).click()
        expect(page.get_by_role("heading", name="사용자 2", exact=True)).to_be_visible()
        expect(page.locator(".rec-facts").get_by_text("56세 이상", exact=True)).to_be_visible()
        assert len(rows(page)) == 10
        expect(page.locator(".rec-why").first).to_be_visible(timeout=3 * SECONDS)
        settled(page)
        keep(page, screenshots, "korean")
