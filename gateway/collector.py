"""Which collector spans are sent to, by the variables of OpenTelemetry's specification; without one nothing is traced.

Needs nothing but the standard library: whoever starts Triton asks here too, and has nothing else of the gateway.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
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
QUEUE: Final = "OTEL_BSP_MAX_QUEUE_SIZE"
BATCH: Final = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
_COUNTS: Final = {DELAY: 86_400_000, "OTEL_BSP_EXPORT_TIMEOUT": 86_400_000, QUEUE: 1_000_000, BATCH: 1_000_000}
"""Whole numbers from 1 up to these; of the first two they are milliseconds."""
_LIMITS: Final = tuple(
    f"OTEL_{what}_LIMIT"
    for what in (
        "ATTRIBUTE_COUNT",
        "ATTRIBUTE_VALUE_LENGTH",
        "EVENT_ATTRIBUTE_COUNT",
        "LINK_ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "SPAN_EVENT_COUNT",
        "SPAN_LINK_COUNT",
    )
)
_COMPRESSIONS: Final = ("none", "gzip", "deflate")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+ *=[ -~]*", re.ASCII)
_ATTRIBUTE: Final = re.compile(r"[^=\s]+\s*=.*")


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
    _check_numbers(environ)
    _check_exporter(environ)
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


def _check_numbers(environ: Mapping[str, str]) -> None:
    """What the SDK gives up at, or would take its default for without a word."""
    for name, most in _COUNTS.items():
        given = environ.get(name, "").strip()
        if given and not (_is_whole(given) and 1 <= int(given) <= most):
            what = "milliseconds, a whole number" if most == _COUNTS[DELAY] else "a whole number"
            raise ValueError(f"{name}: must be {what} from 1 to {most}")
    for name in _LIMITS:
        given = environ.get(name, "").strip()
        if given and not _is_whole(given) and given.lower() != "unset":
            raise ValueError(f"{name}: must be a whole number, 0 or more, or unset")
    batch, queue = (int(environ.get(name, "").strip() or own) for name, own in ((BATCH, 512), (QUEUE, 2048)))
    if batch > queue:
        raise ValueError(f"{QUEUE}: is {queue}, and must be at least {BATCH}, which is {batch}")


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def _check_exporter(environ: Mapping[str, str]) -> None:
    """What would lose every span. Values may be keys, and are not told."""
    for prefix in ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"):
        for name in (f"{prefix}CERTIFICATE", f"{prefix}CLIENT_KEY", f"{prefix}CLIENT_CERTIFICATE"):
            if environ.get(name) and not _is_readable(Path(environ[name])):
                raise ValueError(f"{name}: must be a file that can be read")
        if environ.get(f"{prefix}COMPRESSION", "").strip().lower() not in ("", *_COMPRESSIONS):
            raise ValueError(f"{prefix}COMPRESSION: must be one of {', '.join(_COMPRESSIONS)}")
        seconds = environ.get(f"{prefix}TIMEOUT", "").strip() or "10"
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", seconds) or float(seconds) == 0:
            raise ValueError(f"{prefix}TIMEOUT: must be seconds, a number more than 0")
        _check_pairs(f"{prefix}HEADERS", environ, _HEADER)
    _check_pairs("OTEL_RESOURCE_ATTRIBUTES", environ, _ATTRIBUTE)


def _is_readable(file: Path) -> bool:
    try:
        with file.open("rb"):
            return True
    except (OSError, ValueError):
        return False


def _check_pairs(name: str, environ: Mapping[str, str], pair: re.Pattern[str]) -> None:
    listed = [one.strip() for one in environ.get(name, "").split(",")]
    if not all(pair.fullmatch(one) for one in listed if one):
        raise ValueError(f"{name}: must be NAME=VALUE, with commas between several")
