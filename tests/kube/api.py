"""A blocking client of an API server, as small as tests allow: one method, any resource, any token."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Any


class ApiError(Exception):
    """What the API server refuses: `status` is HTTP's, `reason` Kubernetes' own (`Forbidden`, `Conflict`)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class Api:
    """Requests with one token."""

    def __init__(self, url: str, ca: str, token: str) -> None:
        self._url = url
        self._tls = ssl.create_default_context(cafile=ca)
        self._token = token

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self.call("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """A list is a JSON Patch, a mapping a merge patch."""
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises ApiError for a refusal, OSError where nobody answers."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _content_type(method, body)
        request = urllib.request.Request(
            self._url + path,
            method=method,
            headers=headers,
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._tls) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read()) from None
        try:
            return json.loads(text)
        except ValueError:
            return text.decode()


def _content_type(method: str, body: Any) -> str:
    if method != "PATCH":
        return "application/json"
    return "application/json-patch+json" if isinstance(body, list) else "application/merge-patch+json"


def _refusal(status: int, text: bytes) -> ApiError:
    try:
        said = json.loads(text)
    except ValueError:
        return ApiError(status, "", text.decode(errors="replace"))
    return ApiError(status, said.get("reason", ""), said.get("message", ""))
