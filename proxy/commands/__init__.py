"""The commands beside `run`, `check` and `schema`, one file each; `proxy.cli` loads the one that is called.

explain: the policy's own functions, asked without a request. purge, warm, reload, stats, top: a client of the admin port.
demo: everything at once, on one machine. Their law: importing one loads click and nothing else that is heavy.
"""
