"""For tests of code that uses the client: a fake of the service on loopback, and a clock without waits."""

from helicone_sessions.testing.answers import Answer, Fault, Reply, failure, gateway_page, metrics
from helicone_sessions.testing.clock import VirtualClock
from helicone_sessions.testing.program import Held, Matching
from helicone_sessions.testing.requests import RecordedRequest
from helicone_sessions.testing.server import FakeHelicone

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
