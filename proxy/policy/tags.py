"""The tags that an API gives its answers, by which they can be purged."""

from proxy.wire.fields import Fields, values

# An answer may not make purging expensive: more tags than this, or longer ones, are left out.
_MAX_TAGS = 128
_MAX_TAG_BYTES = 256


def response_tags(fields: Fields) -> tuple[str, ...]:
    """Tags in Surrogate-Key (separated by spaces), Cache-Tag and Cache-Groups (by commas), without doubles."""
    pieces = [piece for line in values(fields, b"surrogate-key") for piece in line.split()]
    pieces += [piece for line in values(fields, b"cache-tag") for piece in line.split(b",")]
    pieces += [
        piece.strip().strip(b'"') for line in values(fields, b"cache-groups") for piece in line.split(b",")
    ]
    tags = dict.fromkeys(piece.strip().decode("utf-8", "replace") for piece in pieces)
    return tuple(tag for tag in tags if 0 < len(tag) <= _MAX_TAG_BYTES)[:_MAX_TAGS]
