"""Asking a store again that answered with an error, or not at all, a moment ago.

One lost request should cost a moment and not the whole delivery. What would do harm where the first request was in
fact carried out is left to whoever called, who looks first: creating and deleting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

# Methods that may be carried out twice: reading, and writing what is the same when it is written again.
_REPEATABLE = ("get_", "search_", "log_", "set_", "update_", "finalize_")
_FIRST_PAUSE, _LONGEST = 0.1, 3.0
_NOT_ALLOWED, _NOT_NOW = (401, 403), (408, 429)


class Repeating:
    """An MlflowClient whose calls, where they may be repeated, are tried for up to three seconds.

    Not where a store refuses for good, does not let us in, is not there, or does not answer in time.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return _repeated(found) if name.startswith(_REPEATABLE) else found


def is_refusal(error: Exception) -> bool:
    """Whether the store answered and will say the same again, as for a value that it does not take."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    code = error.get_http_status_code()
    return 400 <= code < 500 and code not in (*_NOT_ALLOWED, *_NOT_NOW)


def _repeated(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def repeated(*args: Any, **kwargs: Any) -> Any:
        until, pause = time.monotonic() + _LONGEST, _FIRST_PAUSE
        while True:
            try:
                return call(*args, **kwargs)
            except Exception as error:
                if not _may_pass(error) or time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause *= 2

    return repeated


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed in a moment: the store is there, and it was not asked for what it refuses."""
    import requests
    import urllib3
    from mlflow.exceptions import MlflowException

    away = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.TimeoutError)
    if any(isinstance(reason, away) for reason in _reasons(error)):
        return False
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
    elif isinstance(error, MlflowException):
        code = error.get_http_status_code()
    else:
        return isinstance(error, requests.RequestException)
    return code >= 500 or code in _NOT_NOW


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from; MLflow's own say only that a request failed."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
