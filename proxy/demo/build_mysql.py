"""Builds the sample in a MySQL schema, once: a marker row says that it is there."""

from proxy.demo import generate, schema
from proxy.demo.build import batches
from proxy.demo.database import UnavailableError, UnfitError
from proxy.demo.mysql import MySQL, Session
from proxy.demo.progress import reporting

# Another replica that builds the same takes a minute on a slow machine; ten mean that it is stuck.
LOCK_TIMEOUT_S = 600


async def build(database: MySQL, scale: float) -> None:
    """Fills the schema, unless this very sample is there.
    Tables of another version or scale, or of a build that was cut short, are dropped and built anew.
    Raises UnfitError where tables of those names are not ours.
    """
    async with database.session() as session:
        [lock] = await session.rows("SELECT GET_LOCK('crowdgate_demo', ?) AS taken", LOCK_TIMEOUT_S)
        if not lock["taken"]:
            raise UnavailableError("somebody else has been building the sample for too long")
        found = await _tables(session)
        if not await _is_built(session, found, scale):
            await _fill(session, found, scale)
        await session.rows("SELECT RELEASE_LOCK('crowdgate_demo') AS released")


async def _tables(session: Session) -> set[str]:
    rows = await session.rows(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()"
    )
    return {row["name"] for row in rows}


async def _is_built(session: Session, found: set[str], scale: float) -> bool:
    if schema.MARKER in found:
        marker = await session.rows(schema.SELECT_MARKER)
        return marker == [{"version": schema.VERSION, "scale": schema.scale_name(scale)}]
    taken = sorted(found & schema.TABLES.keys())
    if taken:
        raise UnfitError(f"the schema has tables of somebody else's ({', '.join(taken)}): name an empty one")
    return False


async def _fill(session: Session, found: set[str], scale: float) -> None:
    # The marker table comes first: from then on the tables are ours to drop. Its row comes last.
    if schema.MARKER in found:
        await session.write("DELETE FROM crowdgate_demo")
    else:
        await session.write(schema.create_marker())
    sample = generate.sample(scale)
    with reporting(sample.rows) as report:
        for table, rows in sample.tables:
            if table in found:
                await session.write(f"DROP TABLE {table}")
            await session.write(schema.create(table, mysql=True))
            for batch in batches(rows()):
                await session.write_many(schema.insert(table), batch)
                report(table, len(batch))
    await session.write(schema.INSERT_MARKER, schema.VERSION, schema.scale_name(scale))
