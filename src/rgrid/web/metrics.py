"""Numbers for Prometheus: counters, gauges and histograms in the text format, sampled when somebody asks."""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SERIES_MAX: Final = 2000
SAMPLE_WAIT_MAX_S: Final = 1.0
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Labels = tuple[str, ...]
Sampler = Callable[[], Awaitable[None]]


class _Family:
    kind = "untyped"

    def __init__(self, name: str, says: str, labels: Sequence[str]) -> None:
        self.name = name
        self.says = says
        self.labels = tuple(labels)

    def _place(self, known: int, values: Labels) -> Labels:
        """Where a new series goes: once there are too many, into one called `other`, so that memory stays bounded."""
        assert len(values) == len(self.labels), f"{self.name} wants {self.labels}"
        return values if known < SERIES_MAX else ("other",) * len(self.labels)

    def lines(self) -> list[str]:
        raise NotImplementedError

    def head(self) -> list[str]:
        return [f"# HELP {self.name} {self.says}", f"# TYPE {self.name} {self.kind}"]

    def series(self, values: Labels, suffix: str = "", more: str = "") -> str:
        inside = ",".join(f'{name}="{_escape(v)}"' for name, v in zip(self.labels, values, strict=True))
        inside = ",".join(part for part in (inside, more) if part)
        return f"{self.name}{suffix}{{{inside}}}" if inside else self.name + suffix


class Number(_Family):
    """A counter or a gauge, by its `kind`."""

    def __init__(self, name: str, says: str, labels: Sequence[str], kind: str) -> None:
        super().__init__(name, says, labels)
        self.kind = kind
        self._values: dict[Labels, float] = {}

    def add(self, by: float = 1, labels: Labels = ()) -> None:
        if labels not in self._values:
            labels = self._place(len(self._values), labels)
        self._values[labels] = self._values.get(labels, 0) + by

    def set(self, value: float, labels: Labels = ()) -> None:
        if labels not in self._values:
            labels = self._place(len(self._values), labels)
        self._values[labels] = value

    def clear(self) -> None:
        """Forgets every series: for a gauge whose labels come and go."""
        self._values.clear()

    def lines(self) -> list[str]:
        return [f"{self.series(labels)} {_number(value)}" for labels, value in self._values.items()]


class Histogram(_Family):
    kind = "histogram"

    def __init__(self, name: str, says: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, says, labels)
        self._bounds = tuple(bounds)
        self._series: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        found = self._series.get(labels)
        if found is None:
            place = self._place(len(self._series), labels)
            found = self._series.setdefault(place, ([0] * (len(self._bounds) + 1), [0.0]))
        found[0][bisect_left(self._bounds, value)] += 1
        found[1][0] += value

    def lines(self) -> list[str]:
        out: list[str] = []
        for labels, (counts, total) in self._series.items():
            running = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                running += count
                out.append(f"{self.series(labels, '_bucket', f'le={chr(34)}{_number(bound)}{chr(34)}')} {running}")
            out.append(f"{self.series(labels, '_sum')} {_number(total[0])}")
            out.append(f"{self.series(labels, '_count')} {running}")
        return out


class Metrics:
    """The registry of one process."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._samplers: list[Sampler] = []
        self.requests = self.counter("rgrid_http_requests_total", "Requests answered.", ("method", "route", "status"))
        self.seconds = self.histogram("rgrid_http_request_seconds", "Time to answer.", ("method", "route"))

    def counter(self, name: str, says: str, labels: Sequence[str] = ()) -> Number:
        return self._add(Number(name, says, labels, "counter"))

    def gauge(self, name: str, says: str, labels: Sequence[str] = ()) -> Number:
        return self._add(Number(name, says, labels, "gauge"))

    def histogram(
        self, name: str, says: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> Histogram:
        histogram = Histogram(name, says, labels, bounds)
        assert name not in self._families, f"{name} is taken"
        self._families[name] = histogram
        return histogram

    def sample_with(self, sampler: Sampler) -> None:
        """Runs `sampler` before each answer, for gauges that are read from somewhere."""
        self._samplers.append(sampler)

    async def scrape(self) -> bytes:
        """The text of all series. A sampler that fails or hangs leaves its gauges as they were."""
        if self._samplers:
            tasks = [asyncio.ensure_future(sampler()) for sampler in self._samplers]
            _, late = await asyncio.wait(tasks, timeout=SAMPLE_WAIT_MAX_S)
            for task in tasks:
                if task in late:
                    task.cancel()
                elif not task.cancelled() and (error := task.exception()) is not None:
                    log.warning("a metrics sampler failed: %r", error)
        out: list[str] = []
        for family in self._families.values():
            out += family.head()
            out += family.lines()
        return ("\n".join(out) + "\n").encode()

    def _add(self, number: Number) -> Number:
        assert number.name not in self._families, f"{number.name} is taken"
        self._families[number.name] = number
        return number


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
