"""The server behind nginx, with the configuration that the documentation shows."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp.test_utils import unused_port

from helicone_sessions import F, HeliconeClient, UnexpectedResponse

pytest.importorskip("chdb", reason="the extra `local` is not installed")
if shutil.which("nginx") is None:
    pytest.skip("nginx is not installed", allow_module_level=True)

from helicone_sessions.local import LocalServer

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "server.md"
SHOWN = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
ROWS = [{"request_created_at": "2026-11-01T12:00:00Z", "session_id": "a", "cost": 2.0, "user_id": "u"}]
# More than the megabyte that nginx takes by default.
LARGE = F.user_id.is_in(["u", *(f"{number:01000}" for number in range(1_500))])


@contextmanager
def nginx(directory: Path, configuration: str) -> Iterator[None]:
    """An nginx with this part of a configuration; it listens when the command that starts it ends."""
    places = "".join(
        f"{part}_temp_path {part};\n" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        "master_process off; pid nginx.pid; error_log error.log; events {}\n"
        f"http {{ access_log access.log;\n{places}{configuration} }}",
        encoding="utf-8",
    )
    command = ["nginx", "-p", str(directory), "-e", "error.log", "-c", "nginx.conf"]
    started = subprocess.run(command, check=False, capture_output=True, text=True)
    assert 0 == started.returncode, started.stderr
    try:
        yield
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, capture_output=True)


def adapted(configuration: str, directory: Path, *, port: int, upstream: str) -> str:
    """The configuration of the page, with the addresses and certificates of a test."""
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/helicone.example.crt": str(directory / "certificate.pem"),
        "/etc/ssl/helicone.example.key": str(directory / "key.pem"),
        "http://127.0.0.1:8585": upstream,
    }
    for shown, used in changes.items():
        assert 1 == configuration.count(shown)
        configuration = configuration.replace(shown, used)
    return configuration


# aiohttp warns of bodies above one megabyte.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("is_default", [False, True], ids=["as shown", "without client_max_body_size"])
async def test_the_configuration_of_the_page_works(tmp_path: Path, *, is_default: bool) -> None:
    """A client reaches the server and its page over TLS and a prefix; by default nginx refuses 1.5 MB."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    shown = re.sub(r"client_max_body_size.*", "", SHOWN) if is_default else SHOWN
    port = unused_port()
    url = f"https://localhost:{port}/sessions"
    async with (
        LocalServer(ROWS) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
        HeliconeClient(server.api_key, base_url=url, session=session) as client,
    ):
        with nginx(tmp_path, adapted(shown, tmp_path, port=port, upstream=server.url)):
            assert 2.0 == (await client.get_metrics()).average.session_cost
            async with session.get(f"{url}/") as page:
                assert "<!doctype html>" in await page.text()
            if is_default:
                with pytest.raises(UnexpectedResponse, match="413"):
                    await client.get_metrics(LARGE)
            else:
                assert 2.0 == (await client.get_metrics(LARGE)).average.session_cost
        assert server.api_key not in (tmp_path / "access.log").read_text("utf-8")
