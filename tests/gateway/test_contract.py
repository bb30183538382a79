"""Schemathesis, which reads the gateway's own OpenAPI, against the running gateway: nothing undocumented, no 5xx."""

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

from tests.gateway.asking import CASES, EDITS, GENERATIONS, get
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway

pytestmark = pytest.mark.slow

# `positive_data_acceptance` is left out: to a schema any text is an image, and to the gateway it is not.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


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
        case.validate_response(answer, checks=CHECKS)

    one()
    return seen


def _schema(gateway: Gateway, *, forms: bool) -> Any:
    """What the gateway says of itself, with or without its forms."""
    described = get(gateway, "/openapi.json").json()
    if not forms:
        del described["paths"][EDITS]["post"]["requestBody"]["content"]["multipart/form-data"]
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=gateway.url, request_timeout=120)
    return schema


def test_edits(gateway: Gateway, triton: FakeTriton) -> None:
    cases = max(CASES, 40)  # few of them have a picture that is one
    seen = _tried(_schema(gateway, forms=True)[EDITS]["POST"], GenerationMode.POSITIVE, cases)
    assert sum(seen.values()) >= cases * 0.9
    assert {200, 422} <= seen.keys() <= {200, 400, 422}


def test_edits_that_break_the_schema(gateway: Gateway, triton: FakeTriton) -> None:
    """JSON only: everything in a form is text, so that a wrong type there often is none."""
    seen = _tried(_schema(gateway, forms=False)[EDITS]["POST"], GenerationMode.NEGATIVE, CASES)
    assert sum(seen.values()) >= CASES * 0.9
    assert seen.keys() <= {400, 415, 422}


def test_generations(gateway: Gateway, triton: FakeTriton) -> None:
    operation = _schema(gateway, forms=True)[GENERATIONS]["POST"]
    seen = _tried(operation, GenerationMode.POSITIVE, CASES)
    assert {200} <= seen.keys() <= {200, 400, 422}
    seen = _tried(operation, GenerationMode.NEGATIVE, CASES)
    assert seen.keys() <= {400, 415, 422}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/models", "/v1/models/{name}"])
def test_the_rest(gateway: Gateway, triton: FakeTriton, path: str) -> None:
    schema = _schema(gateway, forms=True)
    assert _tried(schema[path]["GET"], GenerationMode.POSITIVE, 10).keys() == {404 if "{" in path else 200}
