"""Post failures, recoveries and warnings of runs as JSON to a webhook.

The address is a secret: anyone who knows it can post. The standard library's client is used since it logs nothing;
requests logs the path of an address.
"""

import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

import dagster as dg

from orchestration.config.data_sets import PARTITION_TAG
from orchestration.config.settings import dagster_page, settings

_TOTAL_SECONDS = 25.0  # for all attempts; Dagster gives a sensor 60, in which two messages may be posted
_ATTEMPT_SECONDS = 10.0  # without a byte from the webhook
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts
_PASSING = (429, 500, 502, 503, 504)  # statuses that may pass
_REDIRECTS = range(300, 400)


class AlertError(Exception):
    """The webhook did not accept a message. The text contains no secret: only the host of the address."""


def post(text: str) -> bool:
    """Post a message in the form of Slack's incoming webhooks, ``{"text": ...}``; gives False if none is configured.

    Raises:
        AlertError: the address is invalid, or the webhook could not be reached, refused after retries, or did not
            answer in time.
    """
    secret = settings().alert_webhook_url
    if secret is None:
        return False
    url = secret.get_secret_value().strip()
    host = _host(url)
    problems: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # A socket's timeout applies to single bytes, and looking up a name has none. So the work is done in a thread.
    threading.Thread(target=lambda: problems.put(_deliver(url, text)), daemon=True, name="alert").start()
    try:
        problem = problems.get(timeout=_TOTAL_SECONDS)
    except queue.Empty:
        problem = f"did not answer within {_TOTAL_SECONDS:g} seconds"
    if problem:
        raise AlertError(f"the webhook at {host} {problem}")
    return True


def _host(url: str) -> str:
    """The address's host. Raises AlertError where it has none."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") and not parts.username else None
    except ValueError:
        host = None
    if host is None:
        raise AlertError("ALERT_WEBHOOK_URL: expected an address such as https://host/path, without a user name")
    return host


def _deliver(url: str, text: str) -> str | None:
    """Post a message, with retries; gives what went wrong, without the address, or None."""
    deadline = time.monotonic() + _TOTAL_SECONDS
    for pause in (*_PAUSES, None):
        problem, passing = _attempt(url, text)
        if not passing or pause is None or time.monotonic() + pause > deadline:
            return problem
        time.sleep(pause)
    return problem


def _attempt(url: str, text: str) -> tuple[str | None, bool]:
    """What went wrong, and whether a retry may help. Only the error's type: its text contains the address."""
    headers = {"Content-Type": "application/json", "User-Agent": "movie-recommender"}
    try:
        request = urllib.request.Request(url, json.dumps({"text": text}).encode(), headers)  # noqa: S310 - http(s)
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_ATTEMPT_SECONDS):
            return None, False
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _REDIRECTS:
            return f"answered with a redirect (status {error.code}); set ALERT_WEBHOOK_URL to where it leads", False
        return f"refused the message: status {error.code}", error.code in _PASSING
    except urllib.error.URLError as error:
        return f"cannot be reached: {type(error.reason).__name__}", True
    except OSError as error:
        return f"cannot be reached: {type(error).__name__}", True
    except Exception as error:  # an answer that is not HTTP, an address that cannot be encoded
        return f"cannot be called: {type(error).__name__}", False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: another host would get the message, and a POST would become a GET."""

    def redirect_request(self, *_: object) -> None:
        """Called by the opener."""


def failure_text(run: dg.DagsterRun, steps: Sequence[tuple[str, str]], reason: str | None) -> str:
    """What failed, where to look, and that the published tables are unchanged.

    Args:
        run: the failed run.
        steps: name and message of each failed step.
        reason: why the run as a whole failed.
    """
    lines = [f":red_circle: {_name(run)} failed."]
    lines += [f"- {step}: {message}" for step, message in steps] or [f"- {reason or 'no step failed'}"]
    return "\n".join([*lines, f"Published tables are unchanged. {_page(run)}"])


def tick_text(who: str, error: Exception) -> str:
    """A schedule or sensor could not launch its run, and why."""
    return (
        f":red_circle: {who} launched no run: {type(error).__name__}: {error}\n"
        f"Published tables are unchanged. {dagster_page('automation')}"
    )


def recovery_text(run: dg.DagsterRun) -> str:
    """A job succeeded after it had failed on the same data set."""
    return f":large_green_circle: {_name(run)} succeeded again. {_page(run)}"


def warning_text(run: dg.DagsterRun, warnings: Sequence[str]) -> str:
    """The warnings of a successful run."""
    return "\n".join([f":large_yellow_circle: {_name(run)} succeeded with warnings.", *(f"- {w}" for w in warnings)])


def _name(run: dg.DagsterRun) -> str:
    data_set = f" of {run.tags[PARTITION_TAG]}" if PARTITION_TAG in run.tags else ""
    return f"{run.job_name}{data_set} (run {run.run_id[:8]})"


def _page(run: dg.DagsterRun) -> str:
    return dagster_page(f"runs/{run.run_id}")
