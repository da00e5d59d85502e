"""What the pages show, loaded once for all sessions."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

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
        _attempt(opened.dataset, opened.refresh)
        models = opened.current.models.items()
        warm = [
            (name, model)
            for name, model in models
            if _attempt(f"{opened.dataset}, {name}", partial(model.live.warm_up, model.lists.moment))
        ]
        for name, model in warm:
            _attempt(f"{opened.dataset}, {name}", partial(getattr, model.live, "explanations"))
        time.sleep(REFRESH_SECONDS)


def _attempt(what: str, work: Callable[[], object]) -> bool:
    """Do it and return whether it worked. Whatever goes wrong is logged: without the thread, nothing new is shown."""
    try:
        work()
        return True
    except (DataError, NotFoundError, OSError) as error:
        _log.warning("%s: %s", what, error)
    except Exception:
        _log.exception("%s: cannot be loaded; trying again in %d s", what, REFRESH_SECONDS)
    return False
