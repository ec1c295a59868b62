"""This replica's line among those of all, in Redis: who is alive, and how far each has applied the purge log."""

import os
import re
import secrets
import socket
from time import monotonic

import msgspec

from proxy.logs import Logger
from proxy.policy.known_log import NO_RECORD
from proxy.policy.replicas import Line, Replicas
from proxy.store.shared import RedisDown, SharedTier

_EVERY_S = 1.0

log = Logger(__name__)


class Membership:
    """Says how far this replica has read, and knows what the others say. It may fail at any time: then others wait longer."""

    def __init__(self, tier: SharedTier, prefix: str) -> None:
        self._tier = tier
        # The braces make a cluster keep it where the log is: a failover takes both back to the same moment.
        self._table = f"{{{prefix}:purges}}:replicas"
        self.replicas = Replicas(own=_name())
        self._max_age_s = 60.0
        self._beat = 0
        self._due = 0.0
        self._fails = False
        self._has_left = False

    async def beat(self, applied: str, max_age_s: float, *, at_once: bool = False) -> None:
        """Say it and look at the others, if it's time to. Raises nothing."""
        now = monotonic()
        if now < self._due and not at_once:
            return
        self._due, self._max_age_s = now + _EVERY_S, max_age_s
        try:
            await self.look()
            await self._write(applied)
            if gone := self.replicas.gone(monotonic()):
                await self._tier.table_drop(self._table, *gone)
        except RedisDown as error:
            self._failed(error)
        else:
            self._fails = False

    async def say(self, applied: str) -> None:
        """Say it now: somebody waits for it. Raises nothing."""
        try:
            await self._write(applied)
        except RedisDown as error:
            self._failed(error)

    async def look(self) -> None:
        """Look at what the others say. Raises RedisDown."""
        table = await self._tier.table(self._table)
        self.replicas.look(table, monotonic())

    async def leave(self) -> None:
        """Nobody is served here any more. Raises nothing."""
        self._has_left = True
        try:
            await self._write(NO_RECORD)
        except RedisDown as error:
            self._failed(error)

    async def _write(self, applied: str) -> None:
        self._beat += 1
        line = Line(applied=applied, max_age_s=self._max_age_s, beat=self._beat, has_left=self._has_left)
        await self._tier.table_set(self._table, self.replicas.own, msgspec.json.encode(line))

    def _failed(self, error: RedisDown) -> None:
        if not self._fails:
            log.warning("replicas cannot be told of this one", kind=str(error))
        self._fails = True


def _name() -> str:
    """What operators know it by, and some letters that no other has: a pod's name may come again."""
    host = os.environ.get("POD_NAME") or socket.gethostname()
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', host)[:64]}-{secrets.token_hex(3)}"
