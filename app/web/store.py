"""What the pages show, in memory once for all sessions."""

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
    """A data set's publications; networks are loaded beside, so that no click waits for one but the very first.

    Raises:
        NotFoundError: nothing is published.
        DataError: a file cannot be used.
    """
    opened = Published(UPath(home), dataset)
    threading.Thread(target=_keep_up, args=(opened,), name=f"keep up {dataset}", daemon=True).start()
    return opened


def _keep_up(opened: Published) -> None:
    """Load what is new, for ever; what cannot be used leaves in place what was loaded before."""
    while True:
        try:
            models = opened.current.models.values()
            for model in models:
                model.live.warm_up(model.lists.moment)
            for model in models:
                _ = model.live.reasons
            time.sleep(REFRESH_SECONDS)
            opened.refresh()
        except (DataError, NotFoundError, OSError) as error:
            _log.warning("%s: %s", opened.dataset, error)
            time.sleep(REFRESH_SECONDS)
