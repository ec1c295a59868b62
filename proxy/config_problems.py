"""What is wrong with a config, and where."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_MAX_PROBLEMS = 200  # more than anybody reads; bounds the work that a hostile file can ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value was written; lines and columns count from 1. A variable of the environment has neither."""

    file: str
    line: int | None = None
    col: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. `path` is the setting, such as `routes[3].ttl`, and is empty where the whole file is meant."""

    file: str
    line: int | None
    col: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.col}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class BadConfig(ValueError):
    """The config cannot be used. `problems` are sorted by place; those of the environment come last."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(
            sorted(problems, key=lambda p: (p.line is None, p.line or 0, p.col or 0, p.file, p.path))
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


def problem_at(place: Place, path: str, message: str) -> Problem:
    return Problem(file=place.file, line=place.line, col=place.col, path=path, message=message)


@dataclass(slots=True)
class Findings:
    """The problems so far, the place of every setting that was given, and the settings not to be trusted."""

    whole: Place
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    unsound: set[str] = field(default_factory=set)

    def add(self, path: str, message: str, place: Place | None = None) -> None:
        """Raises BadConfig when there are too many."""
        if len(self.problems) == _MAX_PROBLEMS:
            raise BadConfig(
                [*self.problems, problem_at(self.whole, "", "there are more problems than these")]
            )
        self.problems.append(problem_at(place or self._nearest(path), path, message))

    def blame(self, path: str, message: str, *others: str) -> None:
        """Adds a problem between values that are right by themselves."""
        if self.is_sound(path) and all(self.is_whole(other) for other in others):
            self.add(path, message)

    def given(self, *paths: str) -> str:
        """The first of the settings that was given at all: where to point when any of them could change."""
        return next((path for path in paths if path in self.places), paths[0])

    def is_sound(self, path: str) -> bool:
        """Whether neither it nor what it stands in was wrong."""
        return self.unsound.isdisjoint(_lineage(path))

    def is_whole(self, path: str) -> bool:
        """Whether it is sound and, if it is a list, all of it."""
        return self.is_sound(path) and not any(bad.startswith(f"{path}[") for bad in self.unsound)

    def _nearest(self, path: str) -> Place:
        return next((self.places[above] for above in _lineage(path) if above in self.places), self.whole)


def _lineage(path: str) -> Iterator[str]:
    """`a[0].b` -> `a[0].b`, `a[0]`, `a`, and the whole file."""
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    yield ""


def below(path: str, key: str) -> str:
    key = key if len(key) <= 64 else f"{key[:64]}…"
    return f"{path}.{key}" if path else key


class Wrong(Exception):
    """A value that cannot be read; the message completes `routes[3].ttl: …`."""
