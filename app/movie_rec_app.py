"""The web app: ``streamlit run app/movie_rec_app.py`` (``make app``)."""

import streamlit as st

from app.web import pages, sidebar, store, widgets
from app.web.address import Address
from ml.errors import DataError, NotFoundError
from ml.published.champions import chosen_dataset, published_datasets
from orchestration.config.settings import Settings


def main() -> None:
    """One run of the page."""
    st.set_page_config(page_title="Movie recommender", page_icon="🎬", layout="wide")
    widgets.style()
    address = Address()
    texts = sidebar.choose_language(address)
    try:
        settings = Settings()
        published = [settings.serve_dataset] if settings.serve_dataset else published_datasets(settings.home)
        datasets = published or [chosen_dataset(settings.home, None)]  # which says what is missing
        dataset = sidebar.choose_dataset(texts, address, datasets)
        snapshot = store.published(str(settings.home), dataset).current
    except (DataError, NotFoundError) as error:
        pages.nothing(texts, str(error.args[0]))
        return
    question = sidebar.ask(texts, address, snapshot)
    address.has_been_read()
    if address.refused:
        pages.refused(texts, address.refused)
        return
    sidebar.remember(address, texts, datasets, dataset, question)
    if question.who == sidebar.VISITOR:
        pages.visitor(texts, snapshot, question)
    elif question.user_id:
        pages.user(texts, snapshot, question)
    else:
        pages.landing(texts, snapshot)


main()
