"""Statements that reach for files, the network, changes or all resources: each ends in an error."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import attrs
import pytest
import pytest_asyncio

from helicone_sessions import ConfigurationError
from helicone_sessions.local import Limits, LocalServer, Store

pytest.importorskip("chdb", reason="the embedded engine is not installed")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has Landlock")

SECRET: Final = "the-canary-sings"
LIMITS: Final = Limits(seconds=0.25, memory=64 * 1024 * 1024, threads=2)
ROWS: Final = [{"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.25} for _ in range(3)]

# {file} holds the secret, {folder} is its directory, {new} does not exist, {host} counts connections.
FILES: Final = [
    "SELECT file('{file}')",
    "SELECT * FROM file('{file}', 'LineAsString')",
    "SELECT * FROM file('{file}')",
    "SELECT * FROM file('{folder}/*', 'RawBLOB')",
    "SELECT * FROM fileCluster('default', '{file}', 'LineAsString')",
    "SELECT * FROM filesystem('{folder}')",
    "SELECT * FROM default.`{file}`",
    "SELECT * FROM '{file}'",
    "SELECT * FROM executable('cat {file}', 'LineAsString', 'line String')",
    "SELECT * FROM sqlite('{file}', 'requests')",
    "SELECT * FROM icebergLocal('{folder}')",
    "SELECT * FROM deltaLakeLocal('{folder}')",
    "SELECT * FROM loop(file('{file}', 'LineAsString'))",
    "SELECT * FROM python(held)",
    "SELECT * FROM eval('SELECT file(''{file}'')')",
    "SELECT file('/proc/self/environ')",
    "SELECT file('/proc/1/cmdline')",
]
NETWORK: Final = [
    "SELECT * FROM url('http://{host}/', 'LineAsString')",
    "SELECT * FROM url('http://{host}/', CSV, 'a String', headers('a'='b'))",
    "SELECT * FROM urlCluster('default', 'http://{host}/', 'LineAsString')",
    "SELECT * FROM remote('{host}', system.one)",
    "SELECT * FROM remoteSecure('{host}', 'system', 'one')",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM s3('http://{host}/bucket/key', 'LineAsString')",
    "SELECT * FROM s3('http://{host}/bucket/key', NOSIGN, 'CSV', 'a String')",
    "SELECT * FROM gcs('http://{host}/bucket/key', 'LineAsString')",
    "SELECT * FROM azureBlobStorage('http://{host}/', 'c', 'b', 'devstoreaccount1', 'a2V5', 'CSV')",
    "SELECT * FROM hdfs('hdfs://{host}/file', 'LineAsString', 'line String')",
    "SELECT * FROM mysql('{host}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('{host}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM mongodb('{host}', 'a', 'b', 'c', 'd', 'e String')",
    "SELECT * FROM redis('{host}', 'k', 'k String')",
    "SELECT * FROM iceberg('http://{host}/bucket/')",
    "SELECT * FROM deltaLake('http://{host}/bucket/')",
    "SELECT * FROM jdbc('jdbc:x://{host}', 'a', 'b')",
    "SELECT * FROM bigquery('p', 'd', 't', access_token = 'x')",
    "SELECT aiGenerate('x', map('credentials', 'http://{host}/'))",
    "SELECT reverseDNSQuery('127.0.0.1')",
]
STATEMENTS: Final = [
    "INSERT INTO helicone_sessions.tags (tag) VALUES ('x')",
    "INSERT INTO helicone_sessions.tags SELECT * FROM helicone_sessions.tags",
    "INSERT INTO FUNCTION file('{new}', 'CSV', 'a Int8') VALUES (1)",
    "INSERT INTO FUNCTION url('http://{host}/', 'CSV', 'a Int8') VALUES (1)",
    "INSERT INTO helicone_sessions.tags (tag) FROM INFILE '{file}' FORMAT LineAsString",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE x (a Int8)",
    "CREATE TABLE x (a String) ENGINE = File(CSV, '{file}')",
    "CREATE DATABASE x",
    "CREATE DATABASE x ENGINE = Filesystem('{folder}')",
    "CREATE VIEW x AS SELECT 1",
    "CREATE FUNCTION x AS a -> a",
    "CREATE USER x",
    "CREATE ROLE x",
    "CREATE NAMED COLLECTION x AS a = 1",
    "CREATE DICTIONARY x (a UInt64) PRIMARY KEY a SOURCE(FILE(path '{file}' format 'CSV')) LAYOUT(FLAT())",
    "DROP TABLE helicone_sessions.tags",
    "DROP DATABASE helicone_sessions",
    "TRUNCATE TABLE helicone_sessions.tags",
    "DETACH TABLE helicone_sessions.tags PERMANENTLY",
    "ATTACH DATABASE x",
    "RENAME TABLE helicone_sessions.tags TO helicone_sessions.x",
    "ALTER TABLE helicone_sessions.tags ADD COLUMN x Int8",
    "ALTER TABLE helicone_sessions.request_response_rmt DELETE WHERE 1",
    "ALTER TABLE helicone_sessions.request_response_rmt FREEZE",
    "DELETE FROM helicone_sessions.request_response_rmt WHERE 1",
    "UPDATE helicone_sessions.request_response_rmt SET status = 0 WHERE 1",
    "OPTIMIZE TABLE helicone_sessions.request_response_rmt FINAL",
    "GRANT ALL ON *.* TO default",
    "SET readonly = 0",
    "SET ROLE ALL",
    "USE default",
    "EXECUTE AS default SELECT 1",
    "SYSTEM SHUTDOWN",
    "SYSTEM RELOAD CONFIG",
    "SYSTEM FLUSH LOGS",
    "SYSTEM STOP MERGES",
    "KILL QUERY WHERE 1",
    "BACKUP DATABASE helicone_sessions TO File('{new}')",
    "BACKUP DATABASE helicone_sessions TO S3('http://{host}/b/', 'a', 'b')",
    "RESTORE DATABASE helicone_sessions AS x FROM File('{file}')",
    "BEGIN TRANSACTION",
    "SELECT 1 INTO OUTFILE '{new}'",
    "SELECT 1 INTO OUTFILE '{file}' TRUNCATE",
    "SELECT 1 INTO OUTFILE '{file}' APPEND FORMAT CSV",
    "SELECT 1 INTO OUTFILE '{new}' AND STDOUT COMPRESSION 'gzip'",
    "SELECT 1 FORMAT Native",
    "SHOW TABLES",
    "DESCRIBE TABLE file('{file}')",
    "EXPLAIN SELECT * FROM file('{file}')",
]
# Nothing in a text lets a second statement or another clause out of the place that it is put into.
ESCAPES: Final = [
    "SELECT 1; {}",
    "SELECT 1;\n{}",
    "SELECT 1) ; {} --",
    "SELECT 1)\n INTO OUTFILE '{{new}}' -- {}",
    "SELECT 1) UNION ALL ({}",
    "SELECT 1 /* */ ; /* */ {}",
    "SELECT 1\0; {}",
    "SELECT 1\N{FULLWIDTH SEMICOLON} {}",
]
ENDLESS: Final = [
    "SELECT sum(sipHash64(number)) FROM numbers(1000000000000000)",
    "SELECT count() FROM system.numbers WHERE sipHash64(number) = 1",
    "SELECT count() FROM numbers(1000000) a, numbers(1000000) b, requests c WHERE a.number > b.number",
    "SELECT sleepEachRow(3) FROM numbers(100)",
    "SELECT sleep(3)",
]
HUGE: Final = [
    "SELECT groupArray(number) FROM numbers(1000000000)",
    "SELECT repeat(repeat('x', 1000000), 1000)",
    "SELECT range(100000000)",
    "SELECT arrayMap(x -> range(100000), range(100000))",
    "SELECT randomString(100000000)",
    "SELECT number, count() FROM numbers(100000000) GROUP BY number",
    "SELECT number FROM numbers(100000000) ORDER BY sipHash64(number) LIMIT 90000000",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
    f"SELECT {'(' * 5000}1{')' * 5000}",
    f"SELECT {' + '.join(['1'] * 60000)}",
    f"SELECT '{'x' * 1000000}'",
    "SELECT",
    "",
    "\0",
    "/* a comment without an end",
    "SELECT 'a string without an end",
]
DISGUISES: Final = [
    "{}",
    "/* SELECT 1 */ {} -- SELECT 1",
    "SELECT * FROM ({}) SETTINGS readonly = 0, allow_ddl = 1",
    "WITH x AS ({}) SELECT * FROM x, requests;",
    "SELECT ({} LIMIT 1) FROM requests",
]
OVERRIDES: Final = [
    "{}",
    "{} SETTINGS max_execution_time = 0, max_memory_usage = 0, readonly = 0",
    "SELECT * FROM ({} SETTINGS max_execution_time = 3600, timeout_overflow_mode = 'break')",
]


def statements() -> Iterator[str]:
    """All of them, with places for the names of files and addresses."""
    for statement in chain(FILES, NETWORK):
        yield from (disguise.replace("{}", statement) for disguise in DISGUISES)
    yield from STATEMENTS
    for escape in ESCAPES:
        yield from (
            escape.replace("{}", statement).replace("{{", "{").replace("}}", "}")
            for statement in ("DROP TABLE helicone_sessions.tags", "SELECT file('{file}')")
        )
    for statement in ENDLESS:
        yield from (override.replace("{}", statement) for override in OVERRIDES)
    yield from HUGE


@attrs.frozen
class Surroundings:
    """A store, and what a statement must not reach."""

    directory: Path
    contacts: list[str]
    names: dict[str, str]

    @property
    def state(self) -> dict[str, str]:
        """A digest of each file, except the files that every owner of the store writes."""
        return {
            str(path.relative_to(self.directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.directory.rglob("*")
            if path.is_file() and path.name not in ("status", "helicone-sessions.lock")
        }


@pytest_asyncio.fixture
async def around(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """A store with three requests beside a file with a secret, and a server that counts its connections."""
    async with LocalServer(ROWS, path=tmp_path / "store"):
        pass
    file = tmp_path / "outside" / "canary.csv"
    file.parent.mkdir()
    file.write_text(SECRET, encoding="utf-8")
    contacts: list[str] = []

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        contacts.append("a connection")
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        address, port = server.sockets[0].getsockname()
        names = {
            "file": str(file),
            "folder": str(file.parent),
            "new": str(tmp_path / "outside" / "new.csv"),
            "host": f"{address}:{port}",
        }
        yield Surroundings(tmp_path, contacts, names)


@pytest.mark.promise(name="D6")
async def test_hostile_statements_end_in_an_error(around: Surroundings) -> None:
    """No statement reads, writes or contacts anything outside the store, changes it, or outlives a limit."""
    texts = list(dict.fromkeys(statements()))
    for name, value in around.names.items():
        texts = [text.replace(f"{{{name}}}", value) for text in texts]
    assert len(texts) >= 250
    accepted, messages = [], []
    async with Store(around.directory / "store", limits=LIMITS) as store:
        before = around.state
        for text in texts:
            try:
                await store.sql(text)
            except ConfigurationError as error:
                messages.append(str(error))
            else:
                accepted.append(text)
        rows = (await store.sql("SELECT count() FROM requests")).values
        after = around.state

    assert [] == accepted
    assert [] == around.contacts
    assert before == after
    assert ((3,),) == rows
    assert [] == [message for message in messages if SECRET in message or "Stack trace" in message]
    assert max(map(len, messages)) < 600
