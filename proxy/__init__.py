"""The sidecar: answers for the API from memory, then from Redis, then asks the API once for everybody.

One request: accept -> match route -> key -> memory -> coalesce( Redis -> API -> store ) -> answer.

Three kinds of module and only three: *decide* (pure: `policy`, `wire`, `store.entry`), *remember* (state, synchronous:
`store.memory`, `metrics`), *talk* (asyncio and client libraries, thin). Requests go one way through them:
`cli > app > admin | connection > handler > ... > policy | wire`; import-linter holds us to it.
"""
