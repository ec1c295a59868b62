"""`top`: what a proxy does right now."""
# ruff: noqa: PLC0415 - rich is an extra, and loaded by nobody else

import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from proxy.commands.admin_client import admin_option, token_option
from proxy.commands.output import duration, json_option, percent, report, size
from proxy.commands.stats import fetch

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from proxy.figures import Figures, Traffic


@click.command("top")
@admin_option
@token_option
@click.option("--once", is_flag=True, help="Look for one interval, print one table, and end.")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Between two looks.",
)
@json_option
def command(admin: str, token: str, once: bool, interval: float, json_file: str | None) -> None:  # noqa: FBT001 - click's
    """Show what a proxy does right now, route by route.

    Looks every second until Ctrl-C; with --once or --json for one interval only.
    """
    # Ends as Ctrl-C does, so that the terminal gets its cursor back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        view = View(admin, token, interval)
        if json_file is not None:
            report(view.document(), view.plain(), json_file)
        elif once:
            _console().print(view.table())
        else:
            _watch(view, _console())
    except KeyboardInterrupt:
        return


class View:
    """Two looks at a proxy, and what happened between them."""

    def __init__(self, admin: str, token: str, interval_s: float) -> None:
        self._admin = admin
        self._token = token
        self._interval_s = interval_s
        self._at = monotonic()
        self._seen = fetch(admin, token)
        self._between: Figures | None = None
        self.seconds = interval_s
        self.trouble = ""

    def look(self) -> "Figures":
        """Wait for the interval's end and look. Raises ClickException."""
        from proxy.figures import between

        threading.Event().wait(max(0.0, self._at + self._interval_s - monotonic()))
        before, then, self._at = self._seen, self._at, monotonic()
        self._seen = fetch(self._admin, self._token, timeout_s=max(2.0, self._interval_s))
        self.seconds = max(monotonic() - then, 1e-6)
        self._between = between(before, self._seen)
        return self._between

    def look_again(self) -> None:
        """Look; a proxy that does not answer for a while (a restart) ends nothing."""
        try:
            self.look()
            self.trouble = ""
        except click.ClickException as error:
            self.trouble = error.message

    @property
    def now(self) -> "Figures":
        """What happened in the last interval."""
        return self.look() if self._between is None else self._between

    def document(self) -> dict[str, object]:
        """For programs."""
        now = self.now
        return {
            "seconds": round(self.seconds, 3),
            "ready": now.ready,
            "redis_state": now.redis.state,
            "memory_bytes": now.memory.bytes,
            "memory_max_bytes": now.memory.max_bytes,
            "total": self._rates(now.total),
            "routes": [self._rates(traffic) for traffic in now.routes],
        }

    def _rates(self, traffic: "Traffic") -> dict[str, object]:
        return {
            "route": traffic.route,
            "requests_per_second": round(traffic.requests / self.seconds, 3),
            "upstream_requests_per_second": round(traffic.upstream_requests / self.seconds, 3),
            "errors_per_second": round(traffic.errors / self.seconds, 3),
            "hit_ratio": traffic.hit_ratio,
            "p50_seconds": traffic.p50_seconds,
            "p99_seconds": traffic.p99_seconds,
        }

    def plain(self) -> str:
        """A sentence, where the document goes into a file."""
        total = self.now.total
        return f"{total.requests / self.seconds:.1f} req/s, hit ratio {percent(total.hit_ratio)}"

    def table(self, rows: int = 1000) -> "RenderableType":
        """For people; `rows` is how many routes fit."""
        from rich.table import Table
        from rich.text import Text

        now = self.now
        made = Table(title=Text(self._title(now)), caption=Text(self.trouble or self._caption(now)))
        for head in ("route", "req/s", "hit ratio", "p50", "p99", "API req/s", "errors/s"):
            made.add_column(head, justify="left" if head == "route" else "right", no_wrap=True)
        for traffic in (*now.routes[:rows], now.total):
            made.add_row(*map(Text, self._row(traffic)), style="bold" if traffic is now.total else None)
        return made

    def _row(self, traffic: "Traffic") -> tuple[str, ...]:
        return (
            traffic.route or "all",
            f"{traffic.requests / self.seconds:.1f}",
            percent(traffic.hit_ratio),
            duration(traffic.p50_seconds),
            duration(traffic.p99_seconds),
            f"{traffic.upstream_requests / self.seconds:.1f}",
            f"{traffic.errors / self.seconds:.1f}",
        )

    def _title(self, now: "Figures") -> str:
        ready = "ready" if now.ready else f"NOT READY: {', '.join(now.unready)}"
        return f"crowdgate {now.version} at {self._admin}: {ready}"

    def _caption(self, now: "Figures") -> str:
        memory = (
            f"memory {size(now.memory.bytes)} of {size(now.memory.max_bytes)} in {now.memory.entries} entries"
        )
        return f"{memory} · redis {now.redis.state} · {now.inflight} in flight, {now.upstream.inflight} at the API"


def _console() -> "Console":
    try:
        from rich.console import Console
    except ModuleNotFoundError as error:
        raise click.ClickException("top needs rich: pip install 'crowdgate[demo]'") from error
    return Console()


def _watch(view: View, console: "Console") -> None:
    if not console.is_terminal:
        while True:
            console.print(view.table())
            view.look()
    from rich.live import Live

    # Title, rules, head, the sum and the caption take nine lines.
    def fitting() -> Any:
        return view.table(max(1, console.height - 9))

    live = Live(fitting(), console=console, auto_refresh=False)
    try:
        live.start(refresh=True)
        while True:
            view.look_again()
            live.update(fitting(), refresh=True)
    finally:
        # Not `with`: Ctrl-C may come while it starts, when the cursor is hidden already.
        live.stop()
        console.show_cursor()
