"""Where answers are kept: an entry's bytes (decide), the memory tier (remember), the Redis tier (talk)."""
