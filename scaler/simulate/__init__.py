"""Replays a trace of requests against policies, on a virtual clock: what each would have cost, and whom it would have failed.

trace (or a shape) -> a world of pods for each policy -> what the policy decides, when it decides -> figures -> table, plot.
Its law: the policies see what they would see in a cluster, and nothing of what is to come (but for the oracle).
"""
