"""Run the web app: ``streamlit run app/movie_rec_app.py`` (``make app``)."""

import streamlit as st

from app.web import pages, sidebar, store, widgets
from app.web.address import Address
from ml.errors import DataError, NotFoundError
from ml.published.champions import chosen_dataset, published_datasets
from orchestration.config.settings import settings


def main() -> None:
    """Render the page once."""
    st.set_page_config(page_title="Movie recommender", page_icon="🎬", layout="wide")
    widgets.style()
    address = Address()
    texts = sidebar.choose_language(address)
    try:
        own = settings()
        published = [own.serve_dataset] if own.serve_dataset else published_datasets(own.home)
        datasets = published or [chosen_dataset(own.home, None)]  # its error says what is missing
        dataset = sidebar.choose_dataset(texts, address, datasets)
        snapshot = store.published(str(own.home), dataset).current
    except (DataError, NotFoundError) as error:
        pages.nothing_published(texts, str(error.args[0]))
        return
    query = sidebar.ask(texts, address, snapshot)
    address.mark_read()
    if address.rejected:
        pages.rejected(texts, address.rejected)
        return
    sidebar.remember(address, texts, datasets, dataset, query)
    if query.audience == sidebar.VISITOR:
        pages.visitor(texts, snapshot, query)
    elif query.user_id:
        pages.user(texts, snapshot, query)
    else:
        pages.landing(texts, snapshot)


main()
