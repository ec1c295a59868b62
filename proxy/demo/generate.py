"""The sample's rows, table by table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.demo import words
from proxy.demo.crowd import DAY, EVENTS, TAKEN_AT, Event, Visit, arrivals, bookings, plan
from proxy.demo.draws import draws
from proxy.demo.schema import stamp

Row = tuple[int | str, ...]

VENUES = 150
USERS = 1_000
ADMINS = 3

# The crowd scales; the catalogue does not, so that 300 events run at once at any scale.
PARTICIPANTS = 200_000
REGISTRATIONS = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Every table's rows, in the order in which they are to be inserted; `rows` is how many there will be."""

    rows: int
    tables: tuple[tuple[str, Callable[[], Iterator[Row]]], ...]


def sample(scale: float) -> Sample:
    people = max(100, int(PARTICIPANTS * scale))
    planned = list(plan())
    booked = bookings(planned, people, int(REGISTRATIONS * scale))
    arrived = arrivals(planned, booked)
    tables: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
        ("venues", _venues),
        ("event_types", _event_types),
        ("events", lambda: _events(planned)),
        ("participants", lambda: _participants(people)),
        ("registrations", lambda: _registrations(planned, booked)),
        ("checkins", lambda: _checkins(arrived)),
        ("users", _users),
        ("permissions", _permissions),
        ("system_config", _system_config),
    )
    few = VENUES + len(words.EVENT_TYPES) + EVENTS + USERS + sum(1 for _ in _permissions()) + len(_CONFIG)
    return Sample(rows=few + people + len(booked) + len(arrived), tables=tables)


def _venues() -> Iterator[Row]:
    draw = draws(1)
    cities = list(words.CITIES.items())
    for venue in range(1, VENUES + 1):
        city, country = cities[int(draw() * len(cities))]
        place = words.PLACES[int(draw() * len(words.PLACES))]
        yield venue, f"{city} {place} {venue}", city, country, 100 * (1 + int(draw() * draw() * 800))


def _event_types() -> Iterator[Row]:
    for number, (slug, name) in enumerate(words.EVENT_TYPES.items(), 1):
        yield number, slug, name


def _events(planned: list[Event]) -> Iterator[Row]:
    draw = draws(2)
    for event in planned:
        mood = words.MOODS[int(draw() * len(words.MOODS))]
        subject = words.SUBJECTS[int(draw() * len(words.SUBJECTS))]
        first = int(draw() * len(words.SENTENCES))
        sentences = (words.SENTENCES * 2)[first : first + 5]
        type_id = 1 + int(draw() * draw() * len(words.EVENT_TYPES))
        venue_id = 1 + int(draw() * VENUES)
        changed = event.opened + int(draw() * DAY)
        times = (event.starts, event.ends, event.opened, changed)
        yield (
            event.id,
            f"{mood} {subject} No. {event.id}",
            " ".join(sentences),
            type_id,
            venue_id,
            event.status,
            event.price_cents,
            *map(stamp, times),
        )


def _participants(people: int) -> Iterator[Row]:
    draw = draws(3)
    for person in range(1, people + 1):
        country = words.COUNTRIES[int(draw() * draw() * len(words.COUNTRIES))]
        joined = TAKEN_AT - int(draw() * 720 * DAY)
        yield person, _name(draw), f"participant{person}@example.org", country, stamp(joined)


def _registrations(planned: list[Event], booked: list[Visit]) -> Iterator[Row]:
    draw = draws(4)
    price_of = {event.id: event.price_cents for event in planned}
    for number, (at, event, person) in enumerate(booked, 1):
        luck = draw()
        price = price_of[event]
        if luck < 0.8:
            yield number, event, person, "standard", price, stamp(at)
        elif luck < 0.95:
            yield number, event, person, "reduced", price // 2, stamp(at)
        else:
            yield number, event, person, "vip", price * 3, stamp(at)


def _checkins(arrived: list[Visit]) -> Iterator[Row]:
    for number, (at, event, person) in enumerate(arrived, 1):
        yield number, event, person, stamp(at)


def _users() -> Iterator[Row]:
    draw = draws(5)
    for user in range(1, USERS + 1):
        yield user, _name(draw), f"user{user}@example.org", "admin" if user <= ADMINS else "organiser"


def _permissions() -> Iterator[Row]:
    draw = draws(6)
    number = 0
    for user in range(1, USERS + 1):
        for _ in range(1 + int(draw() * 10)):
            event = 1 + int(draw() * EVENTS)
            granted = stamp(TAKEN_AT - int(draw() * 300 * DAY))
            for action in ("view", "edit", "check-in")[: 1 + int(draw() * 3)]:
                number += 1
                yield number, user, event, action, granted


_CONFIG = {
    "currency": "EUR",
    "default_locale": "en",
    "locales": "de,en,es,fr,it,pl,pt",
    "checkin_opens_minutes": "30",
    "max_tickets_per_person": "1",
    "registration_open": "true",
    "season_starts_at": "2025-08-01 00:00:00",
    "support_email": "support@example.org",
    "terms_version": "7",
    "theme": "autumn",
}


def _system_config() -> Iterator[Row]:
    for number, (name, value) in enumerate(_CONFIG.items(), 1):
        yield number, name, value


def _name(draw: Callable[[], float]) -> str:
    first = words.FIRST_NAMES[int(draw() * len(words.FIRST_NAMES))]
    last = words.LAST_NAMES[int(draw() * len(words.LAST_NAMES))]
    return f"{first} {last}"
