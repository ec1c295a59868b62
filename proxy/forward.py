"""A request that goes to the API as it is; and what its success purges."""

import asyncio

from proxy.config import Config, sent_on
from proxy.messages import Incoming
from proxy.policy.routes import Match, unsafe
from proxy.policy.writes import Name, purged_by, purged_by_answer, succeeded
from proxy.purge_log import PurgeLog
from proxy.tasks import Tasks
from proxy.upstream import ClientBodyError, Exchange, Outgoing
from proxy.upstream_connection import UpstreamError
from proxy.wire.fields import Fields, end_to_end, first
from proxy.wire.via import hops_left, one_hop_less

Ended = Exchange | UpstreamError | ClientBodyError
"""How a request to the API ended."""

# Of these the API has seen nothing.
_NOT_SENT = frozenset({"connect", "connect_timeout", "busy"})


class Forwarder:
    """Passes requests on."""

    def __init__(self, purge_log: PurgeLog, tasks: Tasks) -> None:
        self._log = purge_log
        self._tasks = tasks

    async def forward(self, config: Config, incoming: Incoming, match: Match | None, route: str) -> Exchange:
        """The API's answer, its body yet to be read. Raises UpstreamError, or ClientBodyError of the client's own body."""
        if unsafe(incoming.method) and config.routes.routes:
            # A task of its own: what the client changed is changed even if it leaves before it is told.
            changing = self._change(config, incoming, match, route)
            asking = self._tasks.spawn(changing, name="unsafe request")
            try:
                ended = await asyncio.shield(asking)
            except BaseException:
                asking.add_done_callback(_abandon)
                raise
        else:
            ended = await _ask(config, incoming, route)
        if not isinstance(ended, Exchange):
            raise ended
        return ended

    async def _change(self, config: Config, incoming: Incoming, match: Match | None, route: str) -> Ended:
        """Ask, and purge what the answer says was changed."""
        purged = purged_by(incoming.method, incoming.target, match, config.routes)
        ended = await _ask(config, incoming, route)
        if isinstance(ended, Exchange):
            if succeeded(ended.head.status):
                host = first(incoming.fields, b"host")
                also = purged_by_answer(incoming.target, host, ended.head.fields, config.routes)
                await self._purge([*purged, *also])
        elif isinstance(ended, UpstreamError) and ended.kind not in _NOT_SENT:
            # The API fell silent and may still do it: what that changes must go now, and again when it is over.
            await self._purge(purged)
            again = self._purge_later(purged, config.settings.upstream.timeout)
            self._tasks.spawn(again, name="purge again")
        # A request whose body never came whole changed nothing: else anybody could purge by breaking off.
        return ended

    async def _purge_later(self, purged: list[Name], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._purge(purged)

    async def _purge(self, purged: list[Name]) -> None:
        if purged:
            await self._log.purge(purged)


async def _ask(config: Config, incoming: Incoming, route: str) -> Ended:
    try:
        return await config.upstream.ask(
            _outgoing(config, incoming), route=route, informational=incoming.informational
        )
    except (UpstreamError, ClientBodyError) as error:
        return error


def _abandon(asking: asyncio.Task[Ended]) -> None:
    # Nobody is left to read the answer.
    ended = None if asking.cancelled() or asking.exception() else asking.result()
    if isinstance(ended, Exchange):
        ended.abandon()


def _outgoing(config: Config, incoming: Incoming) -> Outgoing:
    fields: Fields = end_to_end(incoming.fields)
    if incoming.websocket:
        fields += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    left = hops_left(incoming.method, fields)
    if left is not None:
        fields = one_hop_less(fields, left)
    return Outgoing(
        method=incoming.method,
        target=incoming.target,
        fields=sent_on(config, fields, http_1_0=incoming.http_1_0),
        body=incoming.body,
        whole=incoming.whole,
        chunked=incoming.chunked,
        expects_continue=incoming.expects_continue,
        upgrade=incoming.websocket,
        paced=True,
        again=incoming.again,
    )
