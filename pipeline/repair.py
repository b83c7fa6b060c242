"""Making what an audit found good, with the next ingest's help. The tables must be this run's to write.

What is damaged is not patched: the document's rows or marks are taken away, so that the next ingest reads it
anew, and stores it as it would have on the first day. Vectors that are proven are not paid for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from pipeline.examine import Examined, Treatment, examine
from pipeline.findings import Finding, Kind
from pipeline.plan import RemovalGuard
from pipeline.protocols import Store
from pipeline.records import JsonValue, Vectors
from pipeline.stored import Stored

TAKEN_OUT = frozenset({Kind.ORPHAN, Kind.DOUBLED, Kind.TEXT, Kind.VECTOR, Kind.EMBEDDING})
"""The rows themselves are wrong. Of all others the marks are dropped, and the rows are found until then."""
UNSTEADY = 0.999
"""From this cosine on, another vector for the same group is a service's own unsteadiness, and left."""
TOGETHER = 100
"""Documents that are read and repaired together."""


@dataclass(slots=True, kw_only=True)
class Repaired:
    """What was done to one source."""

    removed: list[str] = field(default_factory=list)
    """Documents whose rows were taken out."""
    dropped: list[str] = field(default_factory=list)
    """Documents whose marks were taken away."""
    withheld: list[str] = field(default_factory=list)
    """Documents whose rows would have been taken out, were they not so many."""
    unsteady: list[str] = field(default_factory=list)
    """Documents that a service embeds a little otherwise each time: left as they are."""
    kept_vectors: int = 0
    """Vectors of what was taken out that are proven, and kept in the journal."""

    def as_json(self) -> dict[str, JsonValue]:
        """For a program to read."""
        return asdict(self)


async def repair(
    store: Store,
    treatment: Treatment,
    findings: Sequence[Finding],
    guards: Mapping[str, RemovalGuard],
    *,
    journal: bool,
) -> dict[str, Repaired]:
    """Take what was found out of the tables, and have the next ingest read it anew.

    Each document is looked at once more: what has become right is left alone.

    Args:
        store: To be called within its lease.
        treatment: As the audit's.
        findings: What it found.
        guards: How much may be taken out of each source. One that has none is left alone: nobody would read
            its documents anew.
        journal: Whether vectors that are proven are worth keeping: not where they cost nothing.

    Raises:
        StoreError: the tables cannot be read or written. To repair again completes it.
    """
    by_source: dict[str, dict[str, list[Finding]]] = {}
    for finding in findings:
        by_source.setdefault(finding.source, {}).setdefault(finding.key, []).append(finding)
    return {
        source: await _Repair(store, treatment, found, journal=journal).run(source, guards[source])
        for source, found in by_source.items()
        if source in guards
    }


class _Repair:
    def __init__(
        self, store: Store, treatment: Treatment, found: Mapping[str, Sequence[Finding]], *, journal: bool
    ) -> None:
        self._store = store
        self._treatment = treatment
        self._found = found
        self._journal = journal
        self._done = Repaired()

    async def run(self, source: str, guard: RemovalGuard) -> Repaired:
        self._done.unsteady = [key for key, findings in self._found.items() if not _serious(findings)]
        keys = [key for key, findings in self._found.items() if _serious(findings)]
        out, stored = await self._to_take_out(source, keys)
        if guard.withholds(len(out), stored):
            self._done.withheld, out = out, []
        withheld = set(self._done.withheld)
        for start in range(0, len(keys), TOGETHER):
            some = [key for key in keys[start : start + TOGETHER] if key not in withheld]
            await self._mend(source, some, set(out))
        return self._done

    async def _to_take_out(self, source: str, keys: Sequence[str]) -> tuple[list[str], int]:
        """Which of these documents are to be taken out, and how many are stored, orphans among them."""
        orphans, out = 0, []
        async for stored in self._store.stored(source, keys):
            findings = self._now(stored).findings
            orphans += not stored.marks
            if any(finding.kind in TAKEN_OUT for finding in findings):
                out.append(stored.key)
        return out, orphans + (await self._store.counts()).get(source, (0, 0))[0]

    async def _mend(self, source: str, keys: Sequence[str], out: set[str]) -> None:
        """Keep the vectors that are proven; then take rows or marks away."""
        vectors: dict[str, Vectors] = {}
        removed, dropped = [], []
        async for stored in self._store.stored(source, keys):
            examined = self._now(stored)
            if stored.key in out:
                removed.append(stored.key)
                vectors |= self._proven(examined) if self._journal else {}
            elif examined.findings:
                dropped.append(stored.marks[0].state)
        await self._store.journal(vectors)
        await self._store.remove(source, removed)
        await self._store.touch(
            [
                replace(state, version="", recipe="", content_key="", group_keys=(), row_key="")
                for state in dropped
            ]
        )
        self._done.removed += removed
        self._done.dropped += [state.key for state in dropped]
        self._done.kept_vectors += sum(map(len, vectors.values()))

    def _now(self, stored: Stored) -> Examined:
        """As it stands, with what only embedding it again can tell."""
        examined = examine(stored, self._treatment)
        told = self._found.get(stored.key, ())
        examined.findings += [one for one in told if one.kind is Kind.EMBEDDING and _serious([one])]
        return examined

    def _proven(self, examined: Examined) -> dict[str, Vectors]:
        """The vectors that may be used again: none of a document that came out otherwise."""
        if any(finding.kind is Kind.EMBEDDING for finding in examined.findings):
            return {}
        dtype = self._treatment.embedder.space.dtype
        return {one.key: one.vectors.astype(dtype) for one in examined.proven}


def _serious(findings: Sequence[Finding]) -> bool:
    return any(finding.cosine is None or finding.cosine < UNSTEADY for finding in findings)
