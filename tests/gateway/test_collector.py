"""Which variables name a collector, and what is said of those that are wrong."""

import pytest

from gateway.collector import ENDPOINT, TRACES_ENDPOINT, traces_url

ON = {ENDPOINT: "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({ENDPOINT: "", TRACES_ENDPOINT: ""}, ""),
        (ON, "http://collector:4318/v1/traces"),
        ({ENDPOINT: "https://collector/otlp/"}, "https://collector/otlp/v1/traces"),
        ({ENDPOINT: "http://a", TRACES_ENDPOINT: "http://[::1]:1/own"}, "http://[::1]:1/own"),
        (ON | {"OTEL_SDK_DISABLED": "true"}, ""),
        (ON | {"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": ""}, "http://collector:4318/v1/traces"),
        (ON | {"OTEL_TRACES_EXPORTER": "none"}, ""),
        (ON | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://collector:4318/v1/traces"),
        (
            ON | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "http://collector:4318/v1/traces",
        ),
        (
            ON | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "http://collector:4318/v1/traces",
        ),
    ],
)
def test_where_spans_go(environ: dict[str, str], url: str) -> None:
    assert traces_url(environ) == url


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({ENDPOINT: "collector:4318"}, f"{ENDPOINT}: must be a URL"),
        ({ENDPOINT: "grpc://collector:4317"}, f"{ENDPOINT}: must be a URL"),
        ({ENDPOINT: "http://"}, f"{ENDPOINT}: must be a URL"),
        ({ENDPOINT: "http://collector:port"}, f"{ENDPOINT}: must be a URL"),
        ({ENDPOINT: "http://[::1"}, f"{ENDPOINT}: must be a URL"),
        ({TRACES_ENDPOINT: "http://collector/a b"}, f"{TRACES_ENDPOINT}: must be a URL"),
        ({ENDPOINT: "http://me:SECRET@collector"}, f"{ENDPOINT}: must hold no password"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "soon"}, "OTEL_BSP_SCHEDULE_DELAY: must be milliseconds"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "0"}, "OTEL_BSP_SCHEDULE_DELAY: must be milliseconds"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER: must be otlp"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: must be http/protobuf"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER: must be one of always_off, always_on"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, "OTEL_TRACES_SAMPLER_ARG: must be the share"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG: must be"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        traces_url(ON | wrong)
    assert str(refused.value).startswith(said)
    assert "SECRET" not in str(refused.value)
