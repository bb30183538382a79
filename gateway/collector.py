"""Which collector spans are sent to, by the variables of OpenTelemetry's specification; without one nothing is traced.

Needs nothing but the standard library: whoever starts Triton asks here too, and has nothing else of the gateway.
"""

import math
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
TRACES_PATH: Final = "/v1/traces"
DELAY: Final = "OTEL_BSP_SCHEDULE_DELAY"
PROTOCOL: Final = "http/protobuf"
SAMPLERS: Final = frozenset(
    f"{parent}{kind}" for parent in ("", "parentbased_") for kind in ("always_on", "always_off", "traceidratio")
)


def traces_url(environ: Mapping[str, str]) -> str:
    """Where spans are sent; empty where they are not wanted.

    An empty variable is as good as none. Raises `ValueError` with a line that names the variable, and not its value.
    """
    name = TRACES_ENDPOINT if environ.get(TRACES_ENDPOINT) else ENDPOINT
    url = environ.get(name, "")
    if not url or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if exporter == "none":
        return ""
    if exporter != "otlp":
        raise ValueError("OTEL_TRACES_EXPORTER: must be otlp, or none for no tracing")
    _check_url(name, url)
    _check_protocol(environ)
    _check_sampler(environ)
    if not (environ.get(DELAY, "") or "1").isdecimal() or environ.get(DELAY, "1") == "0":
        raise ValueError(f"{DELAY}: must be milliseconds, a whole number more than 0")
    return url if name == TRACES_ENDPOINT else url.removesuffix("/") + TRACES_PATH


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port or of an address in brackets
        good = False
    if not good or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"{name}: must be a URL, as in http://collector:4318")
    if "@" in parts.netloc:
        raise ValueError(f"{name}: must hold no password: others can read it; put it into OTEL_EXPORTER_OTLP_HEADERS")


def _check_protocol(environ: Mapping[str, str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        given = environ.get(name, "").strip()
        if given not in ("", PROTOCOL):
            raise ValueError(f"{name}: must be {PROTOCOL}: spans go to a collector's HTTP port, mostly 4318")
        if given:
            return


def _check_sampler(environ: Mapping[str, str]) -> None:
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if sampler and sampler not in SAMPLERS:
        raise ValueError(f"OTEL_TRACES_SAMPLER: must be one of {', '.join(sorted(SAMPLERS))}")
    if sampler.endswith("traceidratio"):
        try:
            share = float(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise ValueError("OTEL_TRACES_SAMPLER_ARG: must be the share of requests that are traced, 0 to 1")
