"""Groups to vectors: pack, send, split what the service will not take, and put documents together again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
from anyio.abc import ObjectReceiveStream

from pipeline import digest
from pipeline.budget import Held, Purse
from pipeline.errors import EmbedError, Recovery, ServiceUnavailable
from pipeline.in_flight import seen_through
from pipeline.pack import Packer, halved
from pipeline.protocols import Embedder
from pipeline.records import Embedded, EmbedGroup, EmbedReply, EmbedRequest, Known, Prepared, Vectors
from pipeline.report import SourceReport

BELIEVED = 8
"""A group that fills less than one part in so many of the limit is not too large, whatever a service says."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """A document some of whose vectors are still to come."""

    prepared: Prepared
    vectors: dict[str, Vectors]
    """Those that are here, by group key."""
    dropped: bool = False
    """Failed, or left for another run."""

    def embedded(self) -> Embedded | None:
        """The whole document, once nothing is missing."""
        keys = self.prepared.state.group_keys
        if self.dropped or any(key not in self.vectors for key in keys):
            return None
        return Embedded(prepared=self.prepared, vectors=tuple(self.vectors[key] for key in keys))

    def divide(self, key: str, parts: Mapping[str, EmbedGroup]) -> None:
        """Put smaller groups in the place of one."""
        groups: list[EmbedGroup] = []
        keys: list[str] = []
        for old_key, group in zip(self.prepared.state.group_keys, self.prepared.groups, strict=True):
            keys += parts if old_key == key else [old_key]
            groups += parts.values() if old_key == key else [group]
        state = replace(self.prepared.state, group_keys=tuple(keys))
        self.prepared = replace(self.prepared, state=state, groups=tuple(groups))


@dataclass(slots=True, kw_only=True)
class EmbedStage:
    """Takes documents in as they come and hands them on with their vectors, request by request.

    Identical groups are sent once. Memory is bounded by the open requests of the packer, those in flight,
    and what came back since the last look-up but one.
    """

    embedder: Embedder
    report: SourceReport
    purse: Purse
    find: Callable[[Sequence[str]], Awaitable[Known]]
    """Looks up vectors that were paid for already, by group key."""
    complete: Callable[[Mapping[str, Vectors], Sequence[Embedded]], Awaitable[None]]
    """Takes what one reply brought, and the documents that it made whole, to be stored together. Not to be
    cancelled: it is paid for, and whatever fails beside it, it is kept."""
    _waiting: dict[str, list[_Waiting]] = field(default_factory=dict)
    """Who waits for a group key."""
    _keys: dict[EmbedGroup, str] = field(default_factory=dict)
    _storing: dict[str, Vectors] = field(default_factory=dict)
    """What came back and is not written yet: no look-up finds it, however many begin meanwhile."""
    _lately: dict[str, Vectors] = field(default_factory=dict)
    _before: dict[str, Vectors] = field(default_factory=dict)

    def look_up_begins(self) -> None:
        """To be called before each look-up of what is stored already.

        What is written after a look-up began and before its documents arrive here was missed by it, and is
        kept until then: it would be paid for twice.
        """
        self._before, self._lately = self._lately, {}

    async def run(self, documents: ObjectReceiveStream[tuple[Prepared, Known]], concurrency: int) -> None:
        """Embed every document, each given with the vectors of its groups that are known already.

        Raises:
            EmbedError: the service will not work for anything; what was handed on before is good.
        """
        requests_in, requests_out = anyio.create_memory_object_stream[EmbedRequest](0)
        async with documents, requests_in, anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(self._send_all, requests_out.clone())
            requests_out.close()
            packer = Packer(self.embedder.limits)
            async with requests_in:  # closed here already, for the senders to end
                async for prepared, known in documents:
                    packer.limits = self.purse.calibration.tightened(self.embedder.limits)
                    for group in await self._missing(prepared, known):
                        if request := packer.add(group):
                            await requests_in.send(request)
                for request in packer.flush():
                    await requests_in.send(request)

    async def _missing(self, prepared: Prepared, known: Known) -> list[EmbedGroup]:
        """Register a document; give those of its groups that nobody has asked for yet."""
        document = _Waiting(prepared=prepared, vectors={})
        parts = dict(zip(prepared.state.group_keys, prepared.groups, strict=True))
        missing = self._await(parts, [document], known)
        if embedded := document.embedded():
            await self.complete({}, [embedded])
        return missing

    def _await(
        self, parts: Mapping[str, EmbedGroup], documents: Sequence[_Waiting], known: Known
    ) -> list[EmbedGroup]:
        """Have these documents wait for these groups, but for what is known; give those to be sent."""
        known = {**self._before, **self._lately, **self._storing, **known}
        missing = []
        for key, group in parts.items():
            if key in known and len(known[key]) == len(group.chunks):
                for document in documents:
                    document.vectors[key] = known[key]
                continue
            if key not in self._waiting:
                self._waiting[key] = []
                self._keys[group] = key
                missing.append(group)
            self._waiting[key] += documents
        return missing

    async def _send_all(self, requests: ObjectReceiveStream[EmbedRequest]) -> None:
        async with requests:
            async for request in requests:
                await self._send(request)

    async def _send(self, request: EmbedRequest) -> bool:
        """Send one request; make it smaller while it is refused, one like it was, or a budget holds less.

        Returns:
            Whether a group in it was too large by itself.
        """
        counted, purse = request.tokens, self.purse
        if len(request.groups) > 1 and (
            purse.calibration.is_too_large(counted) or purse.holds_less_than(counted)
        ):
            return await self._send_halves(request)
        held = purse.take(counted)
        if held is None:
            self._leave(request)
            return False
        answered = self.report.requests
        try:
            with self.report.timed("embedding"):
                reply, stopped = await seen_through(self.embedder.embed(request))
        except BaseException as error:
            self.purse.give_back(held)
            if not isinstance(error, EmbedError):
                raise
            self.purse.spend(error.wasted_tokens, error.wasted_usd)
            self.report.wasted(error)
            # A service that answers others meanwhile is well: something in this request is not.
            well = error.recovery is Recovery.RETRY and self.report.requests > answered
            if not well and error.recovery not in (Recovery.SPLIT, Recovery.SKIP):
                raise
            refusal = error
        else:
            self._tally(request, reply, held)
            paid, whole = self._place(request, reply)
            await self.complete(paid, whole)
            self._written(paid)
            if stopped:
                raise anyio.get_cancelled_exc_class()
            return False
        if refusal.recovery is Recovery.RETRY:
            await self._isolate(request, refusal)
            return False
        return await self._send_smaller(request, refusal)

    async def _isolate(self, request: EmbedRequest, error: EmbedError) -> None:
        """Find what the service breaks on, while it answers everything else.

        Raises:
            EmbedError: it answers neither half: it is not well after all.
        """
        if len(request.groups) == 1:
            self._fail(request.groups[0], error)
            return
        broken: list[tuple[EmbedRequest, EmbedError]] = []
        for half in _halves(request):
            try:
                await self._send(half)
            except EmbedError as failure:
                if failure.recovery is not Recovery.RETRY or broken:
                    raise
                broken.append((half, failure))
        for half, cause in broken:
            await self._isolate(half, cause)

    async def _send_smaller(self, request: EmbedRequest, error: EmbedError) -> bool:
        """Halve a request that was refused, until the refusal falls on one group. Returns as `_send`.

        If it does, it tells nothing of how large a request may be.
        """
        too_large, calibration = error.recovery is Recovery.SPLIT, self.purse.calibration
        if len(request.groups) > 1:
            before = calibration.largest
            if too_large:
                calibration.refused(request.tokens, self.embedder.limits)
            one_alone = await self._send_halves(request)
            if one_alone:
                calibration.largest = before
            return one_alone
        [group] = request.groups
        parts = halved(group) if too_large and self._may_be_too_large(group) else ()
        if parts:
            await self._send_parts(group, parts)
        else:
            self._fail(group, error)
        return too_large

    async def _send_halves(self, request: EmbedRequest) -> bool:
        return any([await self._send(half) for half in _halves(request)])

    def _may_be_too_large(self, group: EmbedGroup) -> bool:
        return group.tokens * BELIEVED >= self.embedder.limits.group_tokens

    async def _send_parts(self, group: EmbedGroup, parts: Sequence[EmbedGroup]) -> None:
        """Embed the parts of a group that the service counts more tokens in than it takes.

        They are groups of the document from now on, as its state will tell: no vector is stored under the
        key of a context that it was not computed in.
        """
        keyed = {digest.group_key(part, self.embedder): part for part in parts}
        known = await self.find(list(keyed))
        key = self._keys.pop(group)
        documents = list(dict.fromkeys(self._waiting.pop(key)))
        for document in documents:
            document.divide(key, keyed)
        missing = self._await(keyed, documents, known)
        await self.complete({}, [whole for document in documents if (whole := document.embedded())])
        for part in missing:
            await self._send(EmbedRequest(groups=(part,)))

    def _tally(self, request: EmbedRequest, reply: EmbedReply, held: Held) -> None:
        self.purse.pay(held, reply.tokens, reply.cost_usd)
        self.purse.spend(reply.wasted_tokens, reply.wasted_usd)
        self.purse.calibration.learn(request.tokens, reply.tokens)
        self.report.paid(request.tokens, reply)
        space = self.embedder.space
        came = [(vectors.shape, vectors.dtype) for vectors in reply.vectors]
        wanted = [((len(group.chunks), space.width), space.dtype) for group in request.groups]
        if came != wanted:
            raise ServiceUnavailable(
                f"{space}: {len(came)} groups of vectors came back for {len(wanted)}, "
                "or of another shape than was asked for; nothing of them is stored"
            )

    def _place(self, request: EmbedRequest, reply: EmbedReply) -> tuple[dict[str, Vectors], list[Embedded]]:
        """Put the vectors where they are waited for; give them by key, and what is whole now."""
        paid: dict[str, Vectors] = {}
        touched: dict[_Waiting, None] = {}
        for group, vectors in zip(request.groups, reply.vectors, strict=True):
            key = self._keys.pop(group)
            paid[key] = vectors
            for document in self._waiting.pop(key):
                document.vectors[key] = vectors
                touched[document] = None
        self._storing |= paid
        return paid, [embedded for document in touched if (embedded := document.embedded())]

    def _written(self, paid: Mapping[str, Vectors]) -> None:
        """From now on a look-up finds it; one that is under way may not have."""
        self._lately |= paid
        for key in paid:
            self._storing.pop(key, None)

    def _fail(self, group: EmbedGroup, error: EmbedError) -> None:
        for document in self._drop(group):
            self.report.fail(document.prepared.state.key, error, document.prepared.url)

    def _leave(self, request: EmbedRequest) -> None:
        """A budget is spent: what waits for these groups is left for another run."""
        self.report.stopped_by = str(self.purse.empty)
        self.report.left_tokens += request.tokens
        for group in request.groups:
            self.report.left += len(self._drop(group))

    def _drop(self, group: EmbedGroup) -> list[_Waiting]:
        """Give up a group; give the documents that were not given up before."""
        waiting = dict.fromkeys(self._waiting.pop(self._keys.pop(group)))  # twice, where its parts are alike
        fresh = [document for document in waiting if not document.dropped]
        for document in fresh:
            document.dropped = True
        return fresh


def _halves(request: EmbedRequest) -> tuple[EmbedRequest, EmbedRequest]:
    middle = len(request.groups) // 2
    return EmbedRequest(groups=request.groups[:middle]), EmbedRequest(groups=request.groups[middle:])
