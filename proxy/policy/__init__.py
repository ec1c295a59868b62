"""Decisions: pure functions of what they are given. No clock, no IO, no logging; `now` is an argument."""
