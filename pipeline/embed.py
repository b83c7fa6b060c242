"""Groups to vectors: pack, send, split what the service will not take, and put documents together again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import ObjectReceiveStream

from pipeline.errors import EmbedError, Recovery, ServiceUnavailable
from pipeline.pack import Packer
from pipeline.protocols import Embedder
from pipeline.records import Embedded, EmbedGroup, EmbedReply, EmbedRequest, Known, Prepared, Vectors
from pipeline.report import SourceReport


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """A document some of whose vectors are still to come."""

    prepared: Prepared
    vectors: list[Vectors | None]
    failed: bool = False

    def embedded(self) -> Embedded | None:
        """The whole document, once nothing is missing."""
        here = tuple(vectors for vectors in self.vectors if vectors is not None)
        whole = len(here) == len(self.vectors) and not self.failed
        return Embedded(prepared=self.prepared, vectors=here) if whole else None


@dataclass(slots=True, kw_only=True)
class EmbedStage:
    """Takes documents in as they come and hands them on with their vectors, request by request.

    Identical groups that are under way at the same time are sent once. Memory is bounded by the open
    requests of the packer and those in flight.
    """

    embedder: Embedder
    report: SourceReport
    complete: Callable[[Sequence[Embedded]], Awaitable[None]]
    """Takes the documents that one reply made whole, to be committed together."""
    _waiting: dict[str, list[tuple[_Waiting, int]]] = field(default_factory=dict)
    """Who waits for a group key, and at which place of the document."""
    _keys: dict[EmbedGroup, str] = field(default_factory=dict)

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
                    for group in self._missing(prepared, known):
                        if request := packer.add(group):
                            await requests_in.send(request)
                for request in packer.flush():
                    await requests_in.send(request)

    def _missing(self, prepared: Prepared, known: Known) -> list[EmbedGroup]:
        """Register a document; give those of its groups that nobody has asked for yet."""
        keys = prepared.state.group_keys
        document = _Waiting(prepared=prepared, vectors=[known.get(key) for key in keys])
        missing = []
        for place, (key, group) in enumerate(zip(keys, prepared.groups, strict=True)):
            if key in known:
                continue
            if key not in self._waiting:
                self._waiting[key] = []
                self._keys[group] = key
                missing.append(group)
            self._waiting[key].append((document, place))
        return missing

    async def _send_all(self, requests: ObjectReceiveStream[EmbedRequest]) -> None:
        async with requests:
            async for request in requests:
                await self._send(request)

    async def _send(self, request: EmbedRequest) -> None:
        """Send one request; halve it while the service refuses it, until the refusal falls on one group."""
        try:
            reply = await self.embedder.embed(request)
        except EmbedError as error:
            if error.recovery not in (Recovery.SPLIT, Recovery.SKIP):
                raise
            if len(request.groups) == 1:
                self._fail(request.groups[0], error)
                return
            middle = len(request.groups) // 2
            await self._send(EmbedRequest(groups=request.groups[:middle]))
            await self._send(EmbedRequest(groups=request.groups[middle:]))
            return
        self._tally(request, reply)
        with anyio.CancelScope(shield=True):  # it is paid for: whatever fails beside it, it is kept
            await self.complete(self._place(request, reply))

    def _tally(self, request: EmbedRequest, reply: EmbedReply) -> None:
        self.report.requests += 1
        self.report.retries += reply.retries
        self.report.tokens += reply.tokens
        self.report.cost_usd += reply.cost_usd
        shapes = [vectors.shape for vectors in reply.vectors]
        wanted = [(len(group.chunks), self.embedder.space.dimensions) for group in request.groups]
        if shapes != wanted:
            raise ServiceUnavailable(
                f"{self.embedder.space}: {len(shapes)} groups of vectors came back for {len(wanted)}, "
                "or of another shape than was asked for; nothing of them is stored"
            )

    def _place(self, request: EmbedRequest, reply: EmbedReply) -> list[Embedded]:
        """Put the vectors where they are waited for; give the documents that are complete by them."""
        touched: dict[_Waiting, None] = {}
        for group, vectors in zip(request.groups, reply.vectors, strict=True):
            for document, place in self._waiting.pop(self._keys.pop(group)):
                document.vectors[place] = vectors
                touched[document] = None
        return [embedded for document in touched if (embedded := document.embedded())]

    def _fail(self, group: EmbedGroup, error: EmbedError) -> None:
        for document, _ in self._waiting.pop(self._keys.pop(group)):
            if not document.failed:
                document.failed = True
                self.report.fail(document.prepared.state.key, error)
