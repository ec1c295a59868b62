"""Bytes to values and back, strictly: what is not plainly HTTP/1.1 is refused, never repaired."""
