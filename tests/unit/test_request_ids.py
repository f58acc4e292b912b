"""What names a request and its trace: a client's own, where it is well-formed."""

import pytest

from app.core.request_ids import request_id, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("given", ["12345678", "a.B-c_d.1", "x" * 128])
def test_a_well_formed_id_of_a_client_is_the_requests(given: str) -> None:
    assert request_id([(b"host", b"x"), (b"x-request-id", given.encode())]) == given


@pytest.mark.parametrize("given", ["", "1234567", "x" * 129, "with space", "new\nline", "ümlaut-id", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"])
def test_any_other_id_is_replaced_by_a_new_one(given: str) -> None:
    made = {request_id([(b"x-request-id", given.encode())]) for _ in range(2)}
    assert len(made) == 2
    assert all(len(new) == 32 for new in made)


@pytest.mark.parametrize(
    "given", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes-later"]
)
def test_a_traceparent_names_the_trace(given: str) -> None:
    assert trace_id([(b"host", b"x"), (b"traceparent", given.encode())]) == TRACE


@pytest.mark.parametrize(
    "given",
    [
        "", TRACE, f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01-more", f"cc-{TRACE}-{SPAN}-01.more", f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"0x-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)  # fmt: skip
def test_a_malformed_traceparent_names_none(given: str) -> None:
    assert trace_id([(b"traceparent", given.encode())]) is None


def test_without_a_traceparent_there_is_no_trace() -> None:
    assert trace_id([(b"host", b"x")]) is None
