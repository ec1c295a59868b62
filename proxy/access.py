"""What is told of each request: metrics always, a log line where it is asked for."""

from proxy.logs import AccessLog
from proxy.messages import Answer, Incoming
from proxy.metrics import BAD_REQUESTS, Metrics


class Access:
    """Counts requests and writes the access log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = AccessLog()
        self.enabled = False

    @property
    def inflight(self) -> int:
        """Requests being answered."""
        return self._metrics.inflight

    @inflight.setter
    def inflight(self, count: int) -> None:
        self._metrics.inflight = count

    def answered(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        """An answer was written to its end, or as far as it went."""
        outcome = answer.handling.outcome
        self._metrics.request(answer.route, incoming.method, answer.status, outcome, seconds)
        if self.enabled:
            self.log(incoming, answer, seconds)

    def log(self, incoming: Incoming, answer: Answer, seconds: float) -> None:
        """Write a line about a request, whether that is `enabled` or not."""
        written = self._log.write(
            {
                "event": "request",
                "route": answer.route,
                "method": incoming.method,
                "path": incoming.path.encode("utf-8", "backslashreplace").decode(),
                "status": answer.status,
                "cache": answer.handling.outcome.value,
                "detail": answer.handling.detail,
                "seconds": round(seconds, 6),
            }
        )
        self._metrics.lost_lines += not written

    def refused(self, kind: str) -> None:
        """A request was malformed, too large or too slow."""
        self._metrics.count(BAD_REQUESTS, kind)
