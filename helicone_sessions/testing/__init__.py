"""For tests of code that uses the client: a fake of the service on loopback, and a clock without waits."""

from helicone_sessions.testing.answer_rules import Held, Matching
from helicone_sessions.testing.answers import Answer, Fault, Reply, failure, gateway_page, metrics
from helicone_sessions.testing.fake_service import FakeHelicone
from helicone_sessions.testing.recorded import RecordedRequest
from helicone_sessions.testing.virtual_clock import VirtualClock

__all__ = [
    "Answer",
    "FakeHelicone",
    "Fault",
    "Held",
    "Matching",
    "RecordedRequest",
    "Reply",
    "VirtualClock",
    "failure",
    "gateway_page",
    "metrics",
]
