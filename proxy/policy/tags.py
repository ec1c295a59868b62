"""The tags that an API gives its answers, by which they can be purged."""

from proxy.policy.targeted import strings
from proxy.wire.fields import Fields, values

# An answer may not make purging expensive: with more tags than this, or longer ones, it is not stored. Left out, they
# could not purge it any more. (RFC 9875 section 2 asks for 32 groups of 32 characters at least.)
_MAX_TAGS = 128
_MAX_TAG_BYTES = 256


def response_tags(fields: Fields, host: bytes) -> tuple[str, ...]:
    """Tags in Surrogate-Key (separated by spaces), Cache-Tag (by commas) and Cache-Groups, without doubles.

    A group is a tag twice: under its name, for people, and as `host`'s own, for Cache-Group-Invalidation.
    """
    pieces = [piece for line in values(fields, b"surrogate-key") for piece in line.split()]
    pieces += [piece for line in values(fields, b"cache-tag") for piece in line.split(b",")]
    groups = strings(fields, b"cache-groups")
    pieces += [group.encode() for group in groups] + [own_group(group, host).encode() for group in groups]
    tags = dict.fromkeys(piece.strip() for piece in pieces)
    return tuple(tag.decode("utf-8", "replace") for tag in tags if tag)


def own_group(group: str, host: bytes) -> str:
    """The tag of a group of one site: another site's group of that name is another (RFC 9875 section 2)."""
    return f"{group}@{host.lower().decode('latin-1')}"


def too_many(fields: Fields) -> bool:
    """Whether an answer's tags are more, or longer, than an entry may have."""
    tags = response_tags(fields, b"")
    return len(tags) > _MAX_TAGS or any(len(tag) > _MAX_TAG_BYTES for tag in tags)
