"""A service that fails in every way it can: what is stored in the end, and what leaks."""

from __future__ import annotations

from pathlib import Path

from apps.fake_service.faults import KINDS, USUAL
from benchmarks.faults import soak


async def test_after_hundreds_of_faults_the_tables_equal_those_of_a_faultless_run(tmp_path: Path) -> None:
    outcome = await soak(250, tmp_path, documents=120)
    assert outcome.faults.total() == 250
    assert len(outcome.faults) > 0.8 * len([name for name in USUAL if name != "nan"])
    assert set(outcome.faults) <= set(KINDS)
    assert outcome.equal
    assert outcome.stored > 300
    assert outcome.limits_passed == [], "no request is refused for a limit"
    assert outcome.key_found_in == [], "no key in any log, error or table"
