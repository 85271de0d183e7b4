"""Tools for testing code that uses the client: a fake service on loopback, and a virtual clock."""

from helicone_sessions.testing.fake_service import FakeHelicone
from helicone_sessions.testing.recorded_request import RecordedRequest
from helicone_sessions.testing.replies import (
    Answer,
    Fault,
    Held,
    Matching,
    Reply,
    failure,
    gateway_page,
    metrics,
    request,
    session,
)
from helicone_sessions.testing.stored_data import Traps
from helicone_sessions.testing.virtual_clock import VirtualClock

__all__ = [
    "Answer",
    "FakeHelicone",
    "Fault",
    "Held",
    "Matching",
    "RecordedRequest",
    "Reply",
    "Traps",
    "VirtualClock",
    "failure",
    "gateway_page",
    "metrics",
    "request",
    "session",
]
