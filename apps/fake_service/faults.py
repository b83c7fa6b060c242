"""Faults by plan: which requests fail, and how, follows from a seed and from what is sent."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from apps.fake_service import spoils
from apps.fake_service.models import CONTEXTUAL, MODELS
from apps.fake_service.pace import retry_after
from apps.fake_service.refusals import Refusal
from apps.fake_service.requests import Asked
from apps.fake_service.spoils import Spoil
from apps.fake_service.steps import Step, error_with_200

_HTML = b"<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head><body>Error 502</body></html>\n"
_HTML_TYPE: Mapping[str, str] = {"Content-Type": "text/html; charset=utf-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a fault needs to know of the request that it happens to."""

    path: str
    model: str
    encoding: str
    groups: int
    slow_seconds: float
    retry_after_seconds: int

    def refuse(self, status: int, said: str, headers: Mapping[str, str] | None = None) -> Step:
        """A refusal in the service's own words."""
        refusal = Refusal(status, said, about=["input"], headers=headers)
        code, body = refusal.for_path(self.path)
        return Step(status=code, body=body, headers=refusal.headers)

    def paced(self, form: str) -> Step:
        """A 429 that asks to wait, in one of the two forms."""
        headers = retry_after("date" if form == "date" else "seconds", self.retry_after_seconds)
        return self.refuse(429, "Too many requests", headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault."""

    step: Callable[[Scene], Step]
    fits: Callable[[Scene], bool] = lambda _scene: True
    legal: bool = False
    """Nothing is wrong with it: a client has no reason to ask again."""
    final: bool = False
    """Waiting does not help, so a client stops: not among the kinds unless named."""


def _status(code: int, said: str) -> Kind:
    return Kind(step=lambda scene: scene.refuse(code, said))


def _final(code: int, said: str) -> Kind:
    return Kind(step=lambda scene: scene.refuse(code, said), final=True)


def _too_large(code: int, said: str) -> Kind:
    # Of a single group it would be a lie that the client believes: it would embed it in smaller ones.
    return Kind(step=lambda scene: scene.refuse(code, said), fits=_several)


def _spoilt(
    spoil: Spoil, fits: Callable[[Scene], bool] = lambda _scene: True, *, legal: bool = False
) -> Kind:
    return Kind(step=lambda _scene: Step(spoil=spoil), fits=fits, legal=legal)


def _several(scene: Scene) -> bool:
    return scene.groups > 1


def _contextual(scene: Scene) -> bool:
    return scene.path == CONTEXTUAL


def _of_floats(scene: Scene) -> bool:
    return scene.encoding in {"float", "base64"}


def _other_model(scene: Scene) -> Step:
    other = next(model.name for model in MODELS if model.path == scene.path and model.name != scene.model)
    return Step(spoil=spoils.other_model(other))


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "408": _status(408, "Request timed out"),
        "409": _status(409, "Conflict"),
        "425": _status(425, "Too early"),
        "429": _status(429, "Too many requests"),
        "429-seconds": Kind(step=lambda scene: scene.paced("seconds")),
        "429-date": Kind(step=lambda scene: scene.paced("date")),
        "500": _status(500, "Internal server error"),
        "502": _status(502, "Bad gateway"),
        "503": _status(503, "Service unavailable"),
        "504": _status(504, "Gateway timeout"),
        "524": _status(524, "A timeout occurred"),
        "529": _status(529, "Overloaded"),
        "413": _too_large(413, "Request entity too large"),
        "400-size": _too_large(400, "This request exceeds the maximum context length"),
        "422-size": _too_large(422, "Input should have fewer tokens"),
        "400-other": _status(400, "The request could not be processed"),
        "401": _final(401, "Invalid API key provided"),
        "402": _final(402, "Insufficient credits"),
        "403": _final(403, "Forbidden"),
        "404": _final(404, "No such model"),
        "429-quota": _final(429, "You exceeded your current quota, please check your plan and billing"),
        "closed": Kind(step=lambda _scene: Step(dropped=True)),
        "reset-before": Kind(step=lambda _scene: Step(reset="before")),
        "reset-middle": Kind(step=lambda _scene: Step(reset="middle")),
        "truncated": Kind(step=lambda _scene: Step(cut=True)),
        "shuffled": _spoilt(spoils.in_reverse, legal=True),
        "missing-item": _spoilt(spoils.missing_item),
        "missing-chunk": _spoilt(spoils.missing_chunk, _contextual),
        "item-twice": _spoilt(spoils.item_twice),
        "extra-item": _spoilt(spoils.extra_item),
        "index-too-high": _spoilt(spoils.index_too_high),
        "index-twice": _spoilt(spoils.index_twice, _several),
        "no-index": _spoilt(spoils.no_index, _several),
        "short-vector": _spoilt(spoils.short_vector),
        "long-vector": _spoilt(spoils.long_vector),
        "zero-vector": _spoilt(spoils.zero_vector),
        "nan": _spoilt(spoils.not_finite, _of_floats),
        "other-model": Kind(step=_other_model),
        "no-usage": _spoilt(spoils.no_usage, legal=True),
        "no-cost": _spoilt(spoils.no_cost, legal=True),
        "200-error": Kind(step=lambda _scene: error_with_200()),
        "empty-data": _spoilt(spoils.empty_data),
        "html": Kind(step=lambda _scene: Step(status=502, body=_HTML, headers=_HTML_TYPE)),
        "html-200": Kind(step=lambda _scene: Step(body=_HTML, headers=_HTML_TYPE)),
        "slow": Kind(step=lambda scene: Step(delay_seconds=scene.slow_seconds), legal=True),
        "trickled": Kind(step=lambda scene: Step(trickle_seconds=scene.slow_seconds), legal=True),
    }
)
"""Every kind of fault by its name."""

USUAL = tuple(name for name, kind in KINDS.items() if not kind.final)
"""The kinds that are injected where none are named: a client that keeps asking gets over them."""


class Faults:
    """A plan of faults, and the count of those that came to pass. Thread-safe.

    What happens to a request follows from the seed, its body, and how often that body was sent: not from
    the order in which requests happen to arrive.
    """

    def __init__(  # noqa: PLR0913 - what a plan says, by name
        self,
        *,
        rate: float,
        seed: int = 0,
        kinds: Iterable[str] = USUAL,
        most: int | None = None,
        slow_seconds: float = 2.0,
        retry_after_seconds: int = 1,
    ) -> None:
        """Injects nothing by itself: a service asks it what happens to each request.

        Args:
            rate: The share of the requests that a fault happens to, from 0 to 1.
            seed: Of the plan.
            kinds: Names from `KINDS`, each as likely as the next among those that fit a request.
            most: After so many faults there are no more.
            slow_seconds: How much longer a slow answer takes.
            retry_after_seconds: What "429-seconds" and "429-date" ask for.

        Raises:
            ValueError: a kind that is none, or a rate that is no share.
        """
        self._kinds = tuple(dict.fromkeys(kinds))
        if unknown := sorted(set(self._kinds) - KINDS.keys()):
            raise ValueError(f"no such kind of fault: {', '.join(unknown)}; there are {', '.join(KINDS)}")
        if not 0 <= rate <= 1:
            raise ValueError(f"a rate of {rate} is no share: it must be from 0 to 1")
        self.injected: Counter[str] = Counter()
        """How many faults there were of each kind."""
        self._rate = rate
        self._seed = seed
        self._most = most
        self._slow_seconds = slow_seconds
        self._retry_after_seconds = retry_after_seconds
        self._sent: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """How many faults there were."""
        return self.injected.total()

    def step(self, asked: Asked, digest: bytes) -> Step | None:
        """What happens to a request with this digest of its body; None if nothing does."""
        scene = Scene(
            path=asked.model.path,
            model=asked.model.name,
            encoding=asked.encoding,
            groups=len(asked.groups),
            slow_seconds=self._slow_seconds,
            retry_after_seconds=self._retry_after_seconds,
        )
        with self._lock:
            self._sent[digest] += 1
            draw = random.Random(f"{self._seed}/{digest.hex()}/{self._sent[digest]}")  # noqa: S311 - no secret
            if draw.random() >= self._rate or (self._most is not None and self.total >= self._most):
                return None
            fitting = [name for name in self._kinds if KINDS[name].fits(scene)]
            if not fitting:
                return None
            name = draw.choice(fitting)
            self.injected[name] += 1
        return replace(KINDS[name].step(scene), name=name)
