"""What of a request's headers gets into the log: identifiers, or nothing."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import get_contextvars

from service.telemetry.trace_context import TraceContextMiddleware, trace_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("traceparent", f"00-{TRACE}-{SPAN}-01", {"trace": TRACE, "span": SPAN, "trace_sampled": True}),
        ("traceparent", f"00-{TRACE}-{SPAN}-00", {"trace": TRACE, "span": SPAN, "trace_sampled": False}),
        ("traceparent", f"cc-{TRACE}-{SPAN}-01-what-comes", {"trace": TRACE, "span": SPAN, "trace_sampled": True}),
        ("traceparent", f"00-{TRACE}-{SPAN}-01-more", {}),
        ("traceparent", f"ff-{TRACE}-{SPAN}-01", {}),
        ("traceparent", f"00-{'0' * 32}-{SPAN}-01", {}),
        ("traceparent", f"00-{TRACE}-{'0' * 16}-01", {}),
        ("traceparent", f"00-{TRACE.upper()}-{SPAN}-01", {}),
        ("traceparent", "", {}),
        (
            "x-cloud-trace-context",
            f"{TRACE}/13236013949905155889;o=1",
            {"trace": TRACE, "span": f"{13236013949905155889:016x}", "trace_sampled": True},
        ),
        ("x-cloud-trace-context", f"{TRACE.upper()}/1", {"trace": TRACE, "span": "0000000000000001"}),
        ("x-cloud-trace-context", f"{TRACE};o=0", {"trace": TRACE, "trace_sampled": False}),
        ("x-cloud-trace-context", f"{TRACE}/99999999999999999999;o=1", {"trace": TRACE, "trace_sampled": True}),
        ("x-cloud-trace-context", f"{'0' * 32}/1;o=1", {}),
        ("x-cloud-trace-context", f"{TRACE}/1;o=1\n", {}),
        ("x-cloud-trace-context", f'{TRACE}", "severity": "EMERGENCY', {}),
        ("x-cloud-trace-context", "a" * 1_000_000, {}),
        ("authorization", f"00-{TRACE}-{SPAN}-01", {}),
    ],
)
def test_a_trace_is_taken_from_a_header_that_is_well_formed(name: str, value: str, found: dict[str, Any]) -> None:
    assert trace_of([(b"host", b"x"), (name.encode(), value.encode())]) == found


def test_the_standard_header_goes_before_googles_own_unless_it_is_malformed() -> None:
    cloud = (b"x-cloud-trace-context", f"{'1' * 32}/1;o=1".encode())
    assert trace_of([cloud, (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())])["trace"] == TRACE
    assert trace_of([cloud, (b"traceparent", b"nonsense")])["trace"] == "1" * 32


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_a_caller_sends_only_identifiers_come_out(standard: bytes, cloud: bytes) -> None:
    for value in trace_of([(b"traceparent", standard), (b"x-cloud-trace-context", cloud)]).values():
        assert isinstance(value, bool) or re.fullmatch("[0-9a-f]{16}|[0-9a-f]{32}", value)


def test_a_request_has_nothing_of_the_one_before_it_on_the_same_connection() -> None:
    seen: list[dict[str, Any]] = []

    async def app(*_: object) -> None:
        seen.append(get_contextvars())

    async def nothing(*_: object) -> Any:  # noqa: ANN401 - never called
        raise AssertionError

    async def serve() -> None:
        traced = TraceContextMiddleware(app)
        headers = [(b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
        await traced({"type": "http", "headers": headers}, nothing, nothing)
        await traced({"type": "http", "headers": []}, nothing, nothing)
        await traced({"type": "lifespan"}, nothing, nothing)

    asyncio.run(serve())
    assert [bool(context) for context in seen] == [True, False, False]
