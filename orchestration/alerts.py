"""Tell a person that a run failed, that it works again, or that a challenger was not promoted: JSON to a webhook."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import dagster as dg
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from orchestration.settings import Settings, dagster_page

_TIMEOUT = 10  # seconds
_RETRIES = Retry(total=4, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)


class AlertError(Exception):
    """The webhook did not take a message. Its text holds no secret: of the address only the host."""


def post(text: str) -> bool:
    """Post a message as Slack's incoming webhooks take it, ``{"text": ...}``; gives False where none is configured.

    Raises:
        AlertError: the webhook could not be reached, or refused, after retries.
    """
    secret = Settings().alert_webhook_url
    if secret is None:
        return False
    url = secret.get_secret_value()
    host = urlsplit(url).hostname
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))
        try:
            answer = session.post(url, json={"text": text}, timeout=_TIMEOUT)
        except requests.RequestException as error:  # its text has the whole address
            raise AlertError(f"the webhook at {host} cannot be reached: {type(error).__name__}") from None
    if not answer.ok:
        raise AlertError(f"the webhook at {host} refused the message: status {answer.status_code}")
    return True


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
