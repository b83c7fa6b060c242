"""A plan that was agreed to, beside what a run finds: what has moved since is told, and not touched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from pipeline.decide import Step, Touch, looked_up
from pipeline.plan import Owing, PlannedDocument, SourcePlan, Survey, marks_of
from pipeline.protocols import Store
from pipeline.records import DocumentState, ItemRef
from pipeline.report import SourceReport


@dataclass(slots=True, kw_only=True)
class Agreed:
    """What a run over one source may do. Fills `report.moved` with what is no longer as planned."""

    plan: SourcePlan
    report: SourceReport
    approved: int | None = None
    """How many of the removals that the plan withheld are approved of, at most."""
    _documents: Mapping[str, PlannedDocument] = field(init=False)
    _owing: Owing = field(default_factory=Owing)

    def __post_init__(self) -> None:
        self._documents = {document.key: document for document in self.plan.documents}

    def limited(self, found: Survey, listed: AbstractSet[str], stored: Mapping[str, DocumentState]) -> Survey:
        """What is left of a survey when all that the plan does not know, or knows otherwise, is taken out.

        What a plan says and was done already, by an earlier try or by somebody else, is not among it.

        Args:
            found: What the source and the store tell now.
            listed: Every key that the source lists.
            stored: What is known of the documents that are no longer listed.
        """
        removed = self._removals(found.removed, listed, stored)
        return Survey(
            owed=self._owed(found.owed, listed),
            unchanged=found.unchanged,
            stored=found.stored,
            removed=tuple(removed),
            held=found.held,
            withheld=self.withholds(removed, len(removed)),
        )

    def withholds(self, keys: Iterable[str], together: int) -> bool:
        """Whether the plan withheld one of these keys, and so many removals are not approved of."""
        few = self.approved is not None and together <= self.approved
        return not few and not set(self.plan.withheld).isdisjoint(keys)

    def _owed(self, owed: Sequence[ItemRef], listed: AbstractSet[str]) -> tuple[ItemRef, ...]:
        plan, moved = self.plan, self.report.moved
        for key in self._documents.keys() - listed - self._held(listed):
            moved[key] = "it is no longer listed"
        for ref in owed:
            if ref.key in plan.failures:
                moved[ref.key] = f"the plan could not tell: {plan.failures[ref.key]}"
            elif ref.key not in self._documents and ref.key not in plan.stored:
                moved[ref.key] = "it is new, or was changed, and the plan does not know it"
        return tuple(ref for ref in owed if ref.key in self._documents)

    def _held(self, listed: AbstractSet[str]) -> set[str]:
        """Planned documents that listed items hold: no listing names them."""
        return {key for key, planned in self._documents.items() if planned.container in listed}

    def emptied(self, keys: Sequence[str], stored: Mapping[str, DocumentState]) -> list[str]:
        """Of what containers hold no more, what was to be removed, and is as it was then."""
        removed = []
        for key in keys:
            if key in stored and self.plan.stored.get(key) == marks_of(stored[key]):
                removed.append(key)
            else:
                self.report.moved[key] = "it is no longer in what held it"
        return removed

    def _removals(
        self, unlisted: Sequence[str], listed: AbstractSet[str], stored: Mapping[str, DocumentState]
    ) -> list[str]:
        planned, moved = self.plan.stored, self.report.moved
        for key in planned.keys() & listed:
            moved[key] = "it is listed again"
        removed = []
        for key in unlisted:
            if key not in planned:
                moved[key] = "it is no longer listed"
            elif key in stored and planned[key] != marks_of(stored[key]):
                moved[key] = "it was to be removed, and what is stored of it has changed"
            else:
                removed.append(key)
        return removed

    async def kept(
        self,
        batches: AsyncIterator[tuple[list[Step], list[Touch]]],
        store: Store,
        look_up_begins: Callable[[], None],
    ) -> AsyncIterator[tuple[list[Step], list[Touch]]]:
        """Let through what is as planned, and costs no more.

        A document whose share of what it has in common with another was put down for that one waits until
        the others are through.
        """
        waiting: list[Step] = []
        async for steps, touched in batches:
            same = [touch for touch in touched if self._as_planned(touch.state, touch.now)]
            chosen = [step for step in steps if self._as_planned(step.state, step.prepared.state)]
            through, later = self._affordable(chosen)
            waiting += later
            yield through, same
        while waiting:
            look_up_begins()
            through, waiting = self._affordable(await looked_up(waiting, store))
            if not through:
                break
            yield through, []
        for step in waiting:
            self.report.moved[step.prepared.state.key] = "it would cost more than planned"

    def removals(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that may go now: an old name goes only when the new one is stored."""
        undone = {*self.report.moved, *(failure.key for failure in self.report.failures)}
        kept = {
            document.renamed_from: document.key
            for document in self.plan.documents
            if document.renamed_from and document.key in undone
        }
        for old in kept.keys() & set(keys):
            self.report.moved[old] = f"it was to be renamed to {kept[old]}, which could not be done"
        return [key for key in keys if key not in kept]

    def _as_planned(self, state: DocumentState | None, now: DocumentState) -> bool:
        planned = self._documents.get(now.key)
        if planned is None:
            self.report.moved[now.key] = "it is new, and the plan does not know it"
        elif (marks_of(state) if state else None) not in (planned.before, planned.after):
            self.report.moved[now.key] = "what is stored of it has changed"
        elif planned.after != marks_of(now):
            self.report.moved[now.key] = "it has changed at the source"
        return now.key not in self.report.moved

    def _affordable(self, steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
        """Those that cost no more than planned, and those that do as yet."""
        through, later = [], []
        for step in steps:
            owed = self._owing.by(step.prepared, step.known)
            if sum(owed.values()) > self._documents[step.prepared.state.key].tokens:
                later.append(step)
            else:
                self._owing.counted |= owed.keys()
                through.append(step)
        return through, later
