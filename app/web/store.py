"""What the pages show, loaded once for all sessions."""

import logging
import threading
import time

import streamlit as st
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.published.snapshot import Published

REFRESH_SECONDS = 30
_log = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def published(home: str, dataset: str) -> Published:
    """Open a data set's published models. A thread loads their networks, so that only the first click may wait for one.

    Raises:
        NotFoundError: nothing is published.
        DataError: a file cannot be used.
    """
    opened = Published(UPath(home), dataset)
    threading.Thread(target=_refresh, args=(opened,), name=f"refresh {dataset}", daemon=True).start()
    return opened


def _refresh(opened: Published) -> None:
    """Poll for new champions forever; one that cannot be used leaves the old one in place."""
    while True:
        try:
            models = opened.current.models.values()
            for model in models:
                model.live.warm_up(model.lists.moment)
            for model in models:
                _ = model.live.explanations
            time.sleep(REFRESH_SECONDS)
            opened.refresh()
        except (DataError, NotFoundError, OSError) as error:
            _log.warning("%s: %s", opened.dataset, error)
            time.sleep(REFRESH_SECONDS)
