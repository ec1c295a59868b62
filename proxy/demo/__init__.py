"""The sample event API: a small, honest event platform to put crowdgate in front of.

schema -> generate -> build (once, kept on disk) -> database (SQLite or MySQL) -> queries -> events, accounts, trial -> api

It holds 2,000 events, 300 of them running at once, and 200,000 participants. It is slow where young platforms are slow:
its tables have primary keys and nothing else. Its law: no `sleep` pretends to be work, and nothing here knows crowdgate.
"""
