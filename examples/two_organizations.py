"""Copy the accounts of two organisations into one store, and query each.

    export HELICONE_API_KEY_SHOP=sk-helicone-...
    export HELICONE_API_KEY_APP=sk-helicone-...
    python two_organizations.py shop app --path helicone-data

takes the key of each organisation from the environment, copies its requests
of the last 30 days, and prints its sessions and dollars. The exit code is 0,
or 1 if a copy failed; the next run continues it.
"""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_DNS, UUID, uuid5

from helicone_sessions import HeliconeClient, HeliconeError, TimeFilter, sync
from helicone_sessions.local import LocalServer


def organization(name: str) -> UUID:
    """The id under which the store keeps its requests, always the same."""
    return uuid5(NAMESPACE_DNS, name)


async def copy(name: str, path: str) -> bool:
    """Whether the copy of an organisation is complete."""
    try:
        # Without the variable, the client would take HELICONE_API_KEY.
        key = os.environ.get(f"HELICONE_API_KEY_{name.upper()}", "")
        async with HeliconeClient(key) as client:
            since = datetime.now(UTC) - timedelta(days=30)
            owner = organization(name)
            done = await sync(client, path, since=since, organization_id=owner)
    except HeliconeError as error:
        print(f"{name}: the copy is not complete: {error}", file=sys.stderr)
        return False
    print(f"{name}: {done.requests - done.replaced:,} new requests")
    return True


async def show(names: list[str], path: str) -> None:
    """The sessions and dollars of each organisation in the last 30 days."""
    # Each key of the local server answers for one organisation.
    keys: dict[str, UUID | str] = {
        f"local-{name}": organization(name) for name in names
    }
    async with LocalServer(path=path, api_key=keys) as server:
        for name, key in zip(names, keys, strict=True):
            async with HeliconeClient(key, base_url=server.url) as local:
                found = await local.count_sessions(
                    time_filter=TimeFilter.last(days=30)
                )
            dollars = found.total_cost or 0
            print(f"{name}: {found.count:,} sessions, ${dollars:,.2f}")


async def run(names: list[str], path: str) -> int:
    """Copy one after the other: a store belongs to one process."""
    complete = [await copy(name, path) for name in names]
    await show(names, path)
    return 0 if all(complete) else 1


def main() -> int:
    """Copy, and show."""
    parser = argparse.ArgumentParser(
        description="Two organisations in one store."
    )
    parser.add_argument("names", nargs="+")
    parser.add_argument("--path", default="helicone-data")
    given = parser.parse_args()
    try:
        return asyncio.run(run(given.names, given.path))
    except HeliconeError as error:
        print(f"the store cannot be queried: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
