"""Say what to do where an MLflow server does not let this process in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ml.errors import DataError
from orchestration.config.settings import settings

_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_UNAUTHENTICATED, _FORBIDDEN = 401, 403


def use_credentials() -> None:
    """Let MLflow's clients in this process and its children use the credentials of the settings, also those of .env."""
    user, password = settings().mlflow_tracking_username, settings().mlflow_tracking_password
    if user:
        os.environ[_USER] = user
    if password:
        os.environ[_PASSWORD] = password.get_secret_value()


@contextmanager
def admitted() -> Iterator[None]:
    """Raise a DataError with what to do, and without secrets, where a tracking server refuses a request."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if told := _told(error.get_http_status_code()):
            raise DataError(f"MLflow: {told}") from error
        raise


def _told(status: int) -> str | None:
    user = settings().mlflow_tracking_username
    if status == _UNAUTHENTICATED:
        tried = f"does not accept the user {user!r} with this password" if user else "asks for a user, and none is set"
        return f"the tracking server {tried} (status 401); set {_USER} and {_PASSWORD} in the environment or in .env"
    if status == _FORBIDDEN:
        return (
            f"the user {user!r} may not do this (status 403); let an administrator of the tracking server give it "
            "the permission MANAGE on the experiment and the registered models of the data set, or set "
            f"{_USER} and {_PASSWORD} to those of the user who created them"
        )
    return None
