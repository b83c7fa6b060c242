"""What the stand-in keeps of each request: numbers, and never a text or a key."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TextIO

from apps.fake_service.models import MOST_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as the service saw it, and what became of it."""

    time: datetime
    """When it came."""
    path: str
    """One of the service's own; empty for any other."""
    status: int
    """0 where the connection was closed without an answer."""
    said: str = ""
    """Why it was refused."""
    groups: int = 0
    chunks: int = 0
    tokens: int = 0
    """Separators included."""
    embedded: bool = False
    """Whether vectors were sent, or begun to be; they are charged for, whether or not they can be used."""
    cost_usd: float = 0.0
    seconds: float = 0.0
    """From its coming until the answer was sent off."""
    in_flight: int = 1
    """How many requests there were when it came, itself included."""
    fault: str = ""
    """The kind of fault that was injected."""

    def line(self) -> str:
        """One line of JSON."""
        fields = asdict(self) | {"time": self.time.isoformat(timespec="milliseconds")}
        return json.dumps(fields | {"seconds": round(self.seconds, 4), "cost_usd": round(self.cost_usd, 9)})


def line_writer(file: TextIO) -> Callable[[Seen], None]:
    """Writes a line for each request, at once."""

    def write(seen: Seen) -> None:
        file.write(f"{seen.line()}\n")
        file.flush()

    return write


def now() -> datetime:
    """The time of day, with its zone."""
    return datetime.now(UTC)


def stats(requests: Sequence[Seen]) -> dict[str, object]:
    """All requests in sums."""
    good = [seen for seen in requests if seen.embedded]
    tokens = sum(seen.tokens for seen in good)
    return {
        "requests": len(requests),
        "answered": sum(seen.status == 200 for seen in requests),
        "statuses": _counted(str(seen.status) for seen in requests),
        "faults": _counted(seen.fault for seen in requests if seen.fault),
        "groups": sum(seen.groups for seen in good),
        "chunks": sum(seen.chunks for seen in good),
        "tokens": tokens,
        "fill": round(tokens / max(1, len(good) * MOST_TOKENS), 4),
        "cost_usd": sum(seen.cost_usd for seen in good),
        "most_in_flight": max((seen.in_flight for seen in requests), default=0),
    }


def summary(requests: Sequence[Seen]) -> str:
    """One line for the whole, one for each reason for a refusal, one for the faults by kind."""
    told = stats(requests)
    held = "{groups} groups, {chunks} chunks, {tokens} tokens, {fill:.1%} full".format_map(told)
    lines = [f"{told['requests']} requests, {told['answered']} answered: {held}"]
    if requests:
        lines.append("  at most {most_in_flight} in flight, ${cost_usd:.6f} charged".format_map(told))
    reasons = Counter((seen.status, seen.said) for seen in requests if seen.status != 200 and not seen.fault)
    lines += [f"  {count} x {code} {said}" for (code, said), count in reasons.most_common(20)]
    faults = sorted(Counter(seen.fault for seen in requests if seen.fault).items())
    if faults:
        kinds = ", ".join(f"{count} {name}" for name, count in faults)
        lines.append(f"  {sum(count for _, count in faults)} faults: {kinds}")
    return "\n".join(lines)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
