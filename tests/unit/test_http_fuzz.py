"""The search API against its own description: what that allows, and much that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, positive_data_acceptance

from apps.desk import desk_of
from apps.http.app import create_app
from tests.serving import ingested, new_key, served

load_all_checks()
KEY: dict[str, str] = {}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """Of a real server on this machine, which asks for a key."""
    made = ingested(tmp_path_factory.mktemp("served"), "serve: {requests_per_minute: 0}\n")
    KEY.update(new_key(made, "k", "staff"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apps.http.guard.WRONG_KEYS_PER_MINUTE", 0)  # it comes without a key, too, and often
        app = create_app(desk_of(made), made.serve, is_open=False)
        app.middleware_stack = app.build_middleware_stack()
    with served(app) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json", headers=KEY)


EFFORT = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_it_keeps_to_its_description(described: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    asked = []
    for operation in (result.ok() for result in described.get_all_operations()):

        @given(case=operation.as_strategy(generation_mode=mode))
        @EFFORT
        def keeps(case: schemathesis.Case) -> None:
            # A filter is a text, and not every text is a filter: what the description allows may be refused.
            case.call_and_validate(headers=KEY, excluded_checks=[positive_data_acceptance])

        with suppress(Unsatisfiable):  # nothing that it takes can be wrong
            keeps()
            asked.append(operation.label)
    assert {"POST /v1/search", "POST /retrieval", "GET /v1/search", "POST /v1/context"} <= set(asked)
    assert "POST /open_webui/search" in asked
