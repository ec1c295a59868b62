"""All SQL of the platform, in the dialect that SQLite and MySQL share.

Every statement ends by naming its route, as sqlcommenter does, so that a slow one can be traced back to it.
"""

# For GET /api/events

EVENTS = """
SELECT e.id, e.title, e.status, t.slug AS type, v.name AS venue, v.city, e.price_cents, e.starts_at, e.ends_at
  FROM events AS e
  JOIN event_types AS t ON t.id = e.type_id
  JOIN venues AS v ON v.id = e.venue_id
 ORDER BY e.starts_at, e.id
 LIMIT ? OFFSET ?
/* route='events' */
"""

EVENTS_BY_STATUS = EVENTS.replace(" ORDER BY", " WHERE e.status = ?\n ORDER BY")
EVENTS_BY_TYPE = EVENTS.replace(" ORDER BY", " WHERE t.slug = ?\n ORDER BY")
EVENTS_BY_STATUS_AND_TYPE = EVENTS.replace(" ORDER BY", " WHERE e.status = ? AND t.slug = ?\n ORDER BY")

EVENT_TOTAL = """
SELECT COUNT(*) AS total
  FROM events AS e
  JOIN event_types AS t ON t.id = e.type_id
/* route='events' */
"""

EVENT_TOTAL_BY_STATUS = EVENT_TOTAL.replace("/*", " WHERE e.status = ?\n/*")
EVENT_TOTAL_BY_TYPE = EVENT_TOTAL.replace("/*", " WHERE t.slug = ?\n/*")
EVENT_TOTAL_BY_STATUS_AND_TYPE = EVENT_TOTAL.replace("/*", " WHERE e.status = ? AND t.slug = ?\n/*")

# {marks}: as many question marks as there are events on the page.
REGISTERED_OF_EACH = """
SELECT event_id, COUNT(*) AS registered
  FROM registrations
 WHERE event_id IN ({marks})
 GROUP BY event_id
/* route='events' */
"""

# For GET /api/events/{id}

EVENT = """
SELECT e.id, e.title, e.description, e.status, t.slug AS type, v.name AS venue, v.city, v.country, v.capacity,
       e.price_cents, e.starts_at, e.ends_at, e.updated_at,
       (SELECT COUNT(*) FROM registrations AS r WHERE r.event_id = e.id) AS registered
  FROM events AS e
  JOIN event_types AS t ON t.id = e.type_id
  JOIN venues AS v ON v.id = e.venue_id
 WHERE e.id = ?
/* route='event' */
"""

EVENT_EXISTS = """
SELECT id FROM events WHERE id = ?
/* route='event-exists' */
"""

# For GET /api/events/{id}/participants

PARTICIPANTS = """
SELECT p.id, p.name, p.country, r.ticket, r.registered_at
  FROM registrations AS r
  JOIN participants AS p ON p.id = r.participant_id
 WHERE r.event_id = ?
 ORDER BY r.registered_at DESC, r.id DESC
 LIMIT ? OFFSET ?
/* route='participants' */
"""

PARTICIPANT_TOTAL = """
SELECT COUNT(*) AS total FROM registrations WHERE event_id = ?
/* route='participants' */
"""

PARTICIPANT = """
SELECT p.id, p.name, p.country, r.ticket, r.registered_at
  FROM registrations AS r
  JOIN participants AS p ON p.id = r.participant_id
 WHERE r.event_id = ? AND r.participant_id = ?
/* route='participant' */
"""

# For POST and DELETE /api/events/{id}/participants, POST /api/checkins

# First in each write: it takes the event's row lock, so that writes to one event come one after the other.
TOUCH_EVENT = """
UPDATE events SET updated_at = ? WHERE id = ?
/* route='event-writes' */
"""

PARTICIPANT_BY_EMAIL = """
SELECT id FROM participants WHERE email = ? ORDER BY id LIMIT 1
/* route='register' */
"""

ADD_PARTICIPANT = """
INSERT INTO participants (name, email, country, created_at) VALUES (?, ?, ?, ?)
/* route='register' */
"""

REGISTRATION = """
SELECT id FROM registrations WHERE event_id = ? AND participant_id = ?
/* route='event-writes' */
"""

EVENT_PRICE = """
SELECT price_cents FROM events WHERE id = ?
/* route='register' */
"""

REGISTER = """
INSERT INTO registrations (event_id, participant_id, ticket, price_cents, registered_at) VALUES (?, ?, ?, ?, ?)
/* route='register' */
"""

CANCEL = """
DELETE FROM registrations WHERE id = ?
/* route='cancel' */
"""

CANCEL_CHECKIN = """
DELETE FROM checkins WHERE id = ?
/* route='cancel' */
"""

CHECKIN = """
SELECT id FROM checkins WHERE event_id = ? AND participant_id = ?
/* route='check-in' */
"""

CHECK_IN = """
INSERT INTO checkins (event_id, participant_id, checked_in_at) VALUES (?, ?, ?)
/* route='check-in' */
"""

# For GET /api/events/{id}/stats

STATS = """
SELECT COUNT(*) AS registered, COUNT(DISTINCT p.country) AS countries,
       COALESCE(SUM(r.price_cents), 0) AS revenue_cents,
       MIN(r.registered_at) AS first_registered_at, MAX(r.registered_at) AS last_registered_at
  FROM registrations AS r
  JOIN participants AS p ON p.id = r.participant_id
 WHERE r.event_id = ?
/* route='event-stats' */
"""

STATS_CHECKED_IN = """
SELECT COUNT(DISTINCT participant_id) AS checked_in FROM checkins WHERE event_id = ?
/* route='event-stats' */
"""

STATS_BY_COUNTRY = """
SELECT p.country, COUNT(*) AS registered
  FROM registrations AS r
  JOIN participants AS p ON p.id = r.participant_id
 WHERE r.event_id = ?
 GROUP BY p.country
 ORDER BY registered DESC, p.country
 LIMIT 5
/* route='event-stats' */
"""

STATS_BY_DAY = """
SELECT DATE(registered_at) AS day, COUNT(*) AS registered
  FROM registrations
 WHERE event_id = ?
 GROUP BY DATE(registered_at)
 ORDER BY day DESC
 LIMIT 7
/* route='event-stats' */
"""

# For GET /api/event-types/popular

POPULAR_TYPES = """
SELECT t.slug AS type, t.name, COUNT(*) AS registered, COUNT(DISTINCT e.id) AS events
  FROM registrations AS r
  JOIN events AS e ON e.id = r.event_id
  JOIN event_types AS t ON t.id = e.type_id
 WHERE e.starts_at >= ?
 GROUP BY t.slug, t.name
 ORDER BY registered DESC, t.slug
 LIMIT 10
/* route='popular-event-types' */
"""

# For GET /api/config

CONFIG = """
SELECT name, value FROM system_config ORDER BY name
/* route='config' */
"""

SEASON = """
SELECT value FROM system_config WHERE name = 'season_starts_at'
/* route='popular-event-types' */
"""

# For GET /api/users/{id}/permissions

USER = """
SELECT id, name, role FROM users WHERE id = ?
/* route='permissions' */
"""

PERMISSIONS = """
SELECT p.event_id, e.title, p.action, p.granted_at
  FROM permissions AS p
  JOIN events AS e ON e.id = p.event_id
 WHERE p.user_id = ?
 ORDER BY p.event_id, p.action, p.id
/* route='permissions' */
"""


def events(*, by_status: bool, by_type: bool) -> tuple[str, str]:
    """The query for a page of events and the one for their number."""
    if by_status and by_type:
        return EVENTS_BY_STATUS_AND_TYPE, EVENT_TOTAL_BY_STATUS_AND_TYPE
    if by_status:
        return EVENTS_BY_STATUS, EVENT_TOTAL_BY_STATUS
    if by_type:
        return EVENTS_BY_TYPE, EVENT_TOTAL_BY_TYPE
    return EVENTS, EVENT_TOTAL


def registered_of_each(events_on_page: int) -> str:
    return REGISTERED_OF_EACH.format(marks=", ".join("?" * events_on_page))
