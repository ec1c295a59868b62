"""The platform's tables, written once for SQLite and MySQL.

Primary keys only: no UNIQUE, no secondary index and no foreign key (InnoDB would index one silently). That is how young
platforms look, and what makes their queries slow.
"""

from datetime import UTC, datetime

# Raise it whenever a table or a generated row changes: whatever was built before is then built anew.
VERSION = 1

# The table that says "this is crowdgate's sample": its one row is written last, so a half-built sample has none.
MARKER = "crowdgate_demo"

_MARKER_COLUMNS = """
    version INTEGER NOT NULL,
    scale VARCHAR(20) NOT NULL
"""

INSERT_MARKER = "INSERT INTO crowdgate_demo (version, scale) VALUES (?, ?)"
SELECT_MARKER = "SELECT version, scale FROM crowdgate_demo"

TABLES = {
    "venues": """
        id INTEGER PRIMARY KEY,
        name VARCHAR(120) NOT NULL,
        city VARCHAR(80) NOT NULL,
        country VARCHAR(2) NOT NULL,
        capacity INTEGER NOT NULL
    """,
    "event_types": """
        id INTEGER PRIMARY KEY,
        slug VARCHAR(40) NOT NULL,
        name VARCHAR(80) NOT NULL
    """,
    "events": """
        id INTEGER PRIMARY KEY,
        title VARCHAR(200) NOT NULL,
        description TEXT NOT NULL,
        type_id INTEGER NOT NULL,
        venue_id INTEGER NOT NULL,
        status VARCHAR(20) NOT NULL,
        price_cents INTEGER NOT NULL,
        starts_at DATETIME NOT NULL,
        ends_at DATETIME NOT NULL,
        created_at DATETIME NOT NULL,
        updated_at DATETIME NOT NULL
    """,
    "participants": """
        id INTEGER PRIMARY KEY,
        name VARCHAR(200) NOT NULL,
        email VARCHAR(254) NOT NULL,
        country VARCHAR(2) NOT NULL,
        created_at DATETIME NOT NULL
    """,
    "registrations": """
        id INTEGER PRIMARY KEY,
        event_id INTEGER NOT NULL,
        participant_id INTEGER NOT NULL,
        ticket VARCHAR(20) NOT NULL,
        price_cents INTEGER NOT NULL,
        registered_at DATETIME NOT NULL
    """,
    "checkins": """
        id INTEGER PRIMARY KEY,
        event_id INTEGER NOT NULL,
        participant_id INTEGER NOT NULL,
        checked_in_at DATETIME NOT NULL
    """,
    "users": """
        id INTEGER PRIMARY KEY,
        name VARCHAR(200) NOT NULL,
        email VARCHAR(254) NOT NULL,
        role VARCHAR(20) NOT NULL
    """,
    "permissions": """
        id INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL,
        event_id INTEGER NOT NULL,
        action VARCHAR(40) NOT NULL,
        granted_at DATETIME NOT NULL
    """,
    "system_config": """
        id INTEGER PRIMARY KEY,
        name VARCHAR(80) NOT NULL,
        value VARCHAR(400) NOT NULL
    """,
}


def columns(table: str) -> list[str]:
    return [line.split()[0] for line in TABLES[table].strip().splitlines()]


def insert(table: str) -> str:
    names = columns(table)
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names are this module's


def create_marker() -> str:
    return f"CREATE TABLE {MARKER} ({_MARKER_COLUMNS})"


def create(table: str, *, mysql: bool = False) -> str:
    """A table's CREATE TABLE.

    On MySQL keys must ask for their numbers, and text compares byte by byte as SQLite's does.
    """
    if not mysql:
        return f"CREATE TABLE {table} ({TABLES[table]})"
    definitions = TABLES[table].replace("INTEGER PRIMARY KEY", "INTEGER AUTO_INCREMENT PRIMARY KEY")
    return f"CREATE TABLE {table} ({definitions}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"


def stamp(seconds: float) -> str:
    """Unix seconds as the tables write an instant: `2025-09-20 18:00:00`, in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).replace(tzinfo=None).isoformat(" ")


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def scale_name(scale: float) -> str:
    """A scale as file names and the marker write it: `0.01`, `1`."""
    return f"{scale:g}"
