"""What the API does: down, hung, slow, cutting its bodies, failing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.flow.faults.stage import Stage
from tests.flow.faults.trial import Fault, Inject


@asynccontextmanager
async def _down(stage: Stage) -> AsyncIterator[None]:
    stage.api.kill()
    try:
        yield
    finally:
        await stage.api.start()


@asynccontextmanager
async def _hung(stage: Stage) -> AsyncIterator[None]:
    stage.api.pause()
    try:
        yield
    finally:
        stage.api.resume()


def being(mode: str) -> Inject:
    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        await stage.api.be(mode)
        try:
            yield
        finally:
            await stage.api.be("well")

    return inject


OF_THE_API = (
    Fault(name="down", inject=_down, of_api=True, statuses=frozenset({502})),
    Fault(name="hung", inject=_hung, of_api=True, statuses=frozenset({504})),
    Fault(name="slow by the byte", inject=being("slow"), of_api=True, hold_s=3.0),
    Fault(name="cutting its bodies", inject=being("cut"), of_api=True, statuses=frozenset({502}), cuts=True),
    Fault(name="500s and 503s", inject=being("ill"), of_api=True, statuses=frozenset({500, 503})),
)
