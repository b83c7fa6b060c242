"""Figures about runs, in a file that Prometheus' node exporter reads.

A run is a short process, which nobody can ask. Counters go on from what the file says, gauges are of the
latest run of their source. See docs/operating.md.
"""

# ruff: noqa: PLC0415 - prometheus_client is imported where figures are written

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report import SourceReport

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_CHANGES = ("added", "changed", "renamed", "rewritten", "removed", "touched", "unchanged")

_COUNTERS: Mapping[str, tuple[str, Callable[[SourceReport], float]]] = {
    "docweave_chunks": ("Passages that runs have written.", lambda report: report.chunks),
    "docweave_tokens": ("Tokens that services have counted.", lambda report: report.tokens),
    "docweave_cost_usd": ("What embedding has cost.", lambda report: report.cost_usd),
    "docweave_requests": ("Requests that services have answered.", lambda report: report.requests),
    "docweave_retries": ("Requests that were sent again.", lambda report: report.retries),
    "docweave_run_seconds": ("Time that runs have taken.", lambda report: report.seconds),
}
_GAUGES: Mapping[str, tuple[str, Callable[[SourceReport], float]]] = {
    "docweave_listed": ("Items that the latest run listed.", lambda report: report.listed),
    "docweave_failed": ("Documents that failed in the latest run.", lambda report: len(report.failures)),
    "docweave_left": ("Documents that a budget left for the next run.", lambda report: report.left),
    "docweave_withheld": ("Removals that wait for approval.", lambda report: report.withheld),
}
_RUNS, _DOCUMENTS = "docweave_runs", "docweave_documents"
_LAST, _LAST_GOOD = "docweave_last_run_timestamp_seconds", "docweave_last_success_timestamp_seconds"


def note_run(path: Path, report: SourceReport, *, failed: bool) -> None:
    """Add a run over one source to the file; replaced as a whole, so that nobody reads half of it.

    Raises:
        OSError: the file cannot be read or written.
    """
    from prometheus_client import generate_latest

    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        samples = _read(path)
        _add(samples, report, failed=failed)
        text = generate_latest(_registry(samples))
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            file.write(text)
        part = Path(file.name)
        part.chmod(0o644)  # the node exporter is another user
        part.replace(path)


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by the metric's name, without `_total`, and its labels."""


def _add(samples: Samples, report: SourceReport, *, failed: bool) -> None:
    source = ("source", report.source)

    def grow(name: str, by: float, *labels: tuple[str, str]) -> None:
        at = (name, tuple(sorted((source, *labels))))
        samples[at] = samples.get(at, 0.0) + by

    def is_now(name: str, value: float) -> None:
        samples[name, (source,)] = value

    outcome = "skipped" if report.skipped else "failed" if failed else "done"
    grow(_RUNS, 1, ("outcome", outcome))
    is_now(_LAST, time.time())
    if outcome == "skipped":
        return
    for change in _CHANGES:
        grow(_DOCUMENTS, getattr(report, change), ("change", change))
    for name, (_, count) in _COUNTERS.items():
        grow(name, count(report))
    for name, (_, value) in _GAUGES.items():
        is_now(name, value(report))
    if not failed:
        is_now(_LAST_GOOD, time.time())


def _metrics(samples: Samples) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    counters = {name: text for name, (text, _) in _COUNTERS.items()}
    counters |= {_RUNS: "Runs, by how they ended.", _DOCUMENTS: "Documents, by what runs did with them."}
    gauges = {name: text for name, (text, _) in _GAUGES.items()}
    gauges |= {_LAST: "When the latest run ended.", _LAST_GOOD: "When the latest run that went well ended."}
    for texts, family in ((counters, CounterMetricFamily), (gauges, GaugeMetricFamily)):
        for name, text in texts.items():
            found = [(labels, value) for (of, labels), value in samples.items() if of == name]
            if found:
                metric = family(name, text, labels=[label for label, _ in found[0][0]])
                for labels, value in found:
                    metric.add_metric([said for _, said in labels], value)
                yield metric


def _registry(samples: Samples) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    class Kept(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _metrics(samples)

    registry = CollectorRegistry()
    registry.register(Kept())
    return registry


def _read(path: Path) -> Samples:
    """What earlier runs wrote; nothing where that is not there, or is nothing of ours."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        text = path.read_text(encoding="utf-8")
        return {
            (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except (FileNotFoundError, ValueError):
        return {}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only process that writes the file. Where the system has no such locks, hope so."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
