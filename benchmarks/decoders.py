"""The decoders that `decoding.py` measures in separate processes: with and without msgspec."""

import asyncio
import time

import recorded
from measure import seconds
from workers import obey

from helicone_sessions.messages.protocol import decipher

BODIES = {form: bodies() for form, bodies in recorded.FORMS.items()}


async def best(form: str, times: int) -> float:
    """The fewest seconds that an answer of this form took, of so many passes over all of them."""
    bodies = BODIES[form]

    def decode_all() -> None:
        for body in bodies:
            decipher(200, {}, body)

    return min(seconds(decode_all, 1, time.thread_time) for _ in range(times)) / len(bodies)


if __name__ == "__main__":
    asyncio.run(obey(best))
