"""Tell a person that a run failed, that it works again, or that a challenger was not promoted: JSON to a webhook.

Whoever knows the webhook's address can post to it, so that it is a secret. The standard library's client is used since
it logs nothing; those of requests write the address's path to their log.
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

from orchestration.config.settings import dagster_page, settings

_TOTAL_SECONDS = 25.0  # for all attempts; Dagster gives a sensor 60, in which two messages may be posted
_ATTEMPT_SECONDS = 10.0  # without a byte from the webhook
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts
_PASSING = (429, 500, 502, 503, 504)  # statuses that another attempt may not meet
_REDIRECTS = range(300, 400)


class AlertError(Exception):
    """The webhook did not take a message. Its text holds no secret: of the address only the host."""


def post(text: str) -> bool:
    """Post a message as Slack's incoming webhooks take it, ``{"text": ...}``; gives False where none is configured.

    Raises:
        AlertError: the address is none, or the webhook could not be reached, refused after retries, or did not answer
            in time.
    """
    secret = settings().alert_webhook_url
    if secret is None:
        return False
    url = secret.get_secret_value().strip()
    host = _host(url)
    problems: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # Timeouts of a socket are for single bytes, and looking up a name has none. So the caller does not wait for it.
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
    """What went wrong, by type, since errors' texts hold the address; and whether another attempt may go better."""
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
    except Exception as error:  # no HTTP in answer, an address that cannot be written
        return f"cannot be asked: {type(error).__name__}", False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Does not follow: another host would be handed the message, and a POST become a GET."""

    def redirect_request(self, *_: object) -> None:
        """Called by the opener."""


def failure_text(run: dg.DagsterRun, steps: Sequence[tuple[str, str]], reason: str | None) -> str:
    """What happened, where to look and that the last good tables are still there.

    Args:
        run: that failed.
        steps: name and message of each step that failed.
        reason: of the run as a whole.
    """
    lines = [f":red_circle: {_name(run)} failed."]
    lines += [f"- {step}: {message}" for step, message in steps] or [f"- {reason or 'no step failed'}"]
    return "\n".join([*lines, f"Published tables stay as they were. {_page(run)}"])


def tick_text(who: str, error: Exception) -> str:
    """That a schedule or sensor could not launch its run, and why."""
    return (
        f":red_circle: {who} launched no run: {type(error).__name__}: {error}\n"
        f"Published tables stay as they were. {dagster_page('automation')}"
    )


def recovery_text(run: dg.DagsterRun) -> str:
    """That a job works again."""
    return f":large_green_circle: {_name(run)} succeeded again. {_page(run)}"


def warning_text(run: dg.DagsterRun, warnings: Sequence[str]) -> str:
    """What a run that succeeded warns of."""
    return "\n".join([f":large_yellow_circle: {_name(run)} succeeded with warnings.", *(f"- {w}" for w in warnings)])


def _name(run: dg.DagsterRun) -> str:
    return f"{run.job_name} (run {run.run_id[:8]})"


def _page(run: dg.DagsterRun) -> str:
    return dagster_page(f"runs/{run.run_id}")
