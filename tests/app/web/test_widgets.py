from types import SimpleNamespace

import pytest

from app.web.texts import Texts
from app.web.widgets import _card


@pytest.mark.parametrize(
    ("genres", "about"), [("", "SKU/1 &lt;a&gt;"), ("Drama|War", "Drama, War · SKU/1 &lt;a&gt;")], ids=["none", "two"]
)
def test_an_item_without_genres_shows_its_id_alone(genres: str, about: str) -> None:
    row = SimpleNamespace(genres=genres, movie_id="SKU/1 <a>", movie_year=0, title="Axe", rank=1, score=0.1)
    answer = SimpleNamespace(model=SimpleNamespace(scores_are_chances=False))
    shown = _card(Texts("en"), row, answer, is_shared=False, explanations={})  # type: ignore[arg-type]
    assert f'<div class="rec-about">{about}</div>' in shown
