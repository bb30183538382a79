"""Schemathesis, which reads the gateway's own OpenAPI, against the running gateway: nothing undocumented, no 5xx."""

import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway.asking import EDITS
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway

# `positive_data_acceptance` is left out: to a schema any text is an image, and to the gateway it is not.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CASES = int(os.environ.get("SCHEMATHESIS_CASES", "120"))  # of each kind; thousands take minutes


def _tried(operation: Any, mode: GenerationMode, cases: int) -> Counter[int]:
    """Statuses of the answers to this many generated requests, each of which passed all checks."""
    seen: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    def one(case: Any) -> None:
        answer = case.call()
        seen[answer.status_code] += 1
        # Everything in a form is text, so that a wrong type there often is none.
        json = case.media_type == "application/json"
        case.validate_response(answer, checks=[*CHECKS, negative_data_rejection] if json else CHECKS)

    one()
    return seen


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_edits(gateway: Gateway, triton: FakeTriton, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(gateway.url + "/openapi.json")
    seen = _tried(schema[EDITS]["POST"], mode, CASES)
    assert sum(seen.values()) >= CASES * 0.9
    assert seen.keys() <= {200, 400, 415, 422}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/models"])
def test_the_rest(gateway: Gateway, triton: FakeTriton, path: str) -> None:
    schema = schemathesis.openapi.from_url(gateway.url + "/openapi.json")
    assert _tried(schema[path]["GET"], GenerationMode.POSITIVE, 10).keys() == {200}
