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
        (
            ON
            | {
                "OTEL_BSP_MAX_QUEUE_SIZE": "512",
                "OTEL_BSP_SCHEDULE_DELAY": " 200 ",
                "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "unset",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5",
                "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a=b, authorization=Basic%20Zg==,",
                "OTEL_EXPORTER_OTLP_CERTIFICATE": __file__,
                "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=a,where=Ulm-Süd",
            },
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
        ({"OTEL_BSP_SCHEDULE_DELAY": "00"}, "OTEL_BSP_SCHEDULE_DELAY: must be milliseconds"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "٣"}, "OTEL_BSP_SCHEDULE_DELAY: must be milliseconds"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "9" * 30}, "OTEL_BSP_SCHEDULE_DELAY: must be milliseconds"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE: must be a whole number from 1"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "511"}, "OTEL_BSP_MAX_QUEUE_SIZE: is 511, and must be at least"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"}, "OTEL_BSP_MAX_QUEUE_SIZE: is 2048, and must be at least"),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: must be a whole number, 0"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, "OTEL_EXPORTER_OTLP_TIMEOUT: must be seconds"),
        ({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "nan"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: must be seconds"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "OTEL_EXPORTER_OTLP_COMPRESSION: must be one of none, gzip"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "SECRET"}, "OTEL_EXPORTER_OTLP_HEADERS: must be NAME=VALUE"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=SECRET\nb"}, "OTEL_EXPORTER_OTLP_HEADERS: must be NAME=VALUE"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "production"}, "OTEL_RESOURCE_ATTRIBUTES: must be NAME=VALUE"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/SECRET.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE: must be a file"),
        ({"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": "/"}, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: must be a file"),
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
