"""What must outlive the vault process: placeholders and the last signed head, in one SQLite file.

It holds no real secret. Of a placeholder it holds the SHA-256, by which it is looked up, and the text sealed
with AES-256-GCM under a key that stands beside it (0600): after a restart the vault must lease the texts of live
jobs again, and a copy of the database alone gives none away. The sealed text goes as soon as no lease needs it.

All changes go through `write`: whoever waits for it knows that they are on the disk. Changes that come while one
transaction is being written share the next one, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import EnvironmentFailed
from appliance.model.ids import JobId, SecretName
from appliance.model.placeholder import Binding, Narrowing
from appliance.vault.private_files import read_private, write_private

Value: TypeAlias = str | bytes | int | float | None
_NONCE = 12  # bytes, NIST SP 800-38D section 5.2.1.1
_VERSION = 1
_SCHEMA = """
CREATE TABLE placeholder (
    digest BLOB PRIMARY KEY, parent BLOB, job TEXT NOT NULL, secret TEXT NOT NULL,
    host TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    expires REAL NOT NULL, uses_left INTEGER, revoked REAL, made REAL NOT NULL, sealed BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX placeholder_job ON placeholder (job);
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, hash BLOB NOT NULL, time REAL NOT NULL,
    key_id TEXT NOT NULL, signature BLOB NOT NULL
) STRICT;
"""


class _Row(Struct, frozen=True, array_like=True):
    """A row of `placeholder`, in the order of the schema."""

    digest: bytes
    parent: bytes | None
    job: JobId
    secret: SecretName
    host: str
    method: str
    path: str
    expires: float
    uses_left: int | None
    revoked: float | None
    made: float
    sealed: bytes | None


class _HeadRow(Struct, frozen=True, array_like=True):
    sequence: int
    hash: bytes
    time: float
    key_id: str
    signature: bytes


class Change(NamedTuple):
    """One statement and its values. Values never hold a secret or a placeholder's text."""

    statement: str
    values: tuple[Value, ...]


class Stored(NamedTuple):
    """One placeholder as it was found at the start. `text` "": it is not needed any more."""

    binding: Binding
    parent: bytes | None
    made: float
    revoked: float | None
    text: str

    def __repr__(self) -> str:
        return "Stored(…)"


class Ledger:
    """Opens or makes `state`/vault.sqlite3. Raises EnvironmentFailed if it cannot be read, or is not ours."""

    def __init__(self, state: Path) -> None:
        self._path = state / "vault.sqlite3"
        self._seal = AESGCM(_sealing_key(state / "placeholder-key", made_before=self._path.exists()))
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._pending: list[tuple[tuple[Change, ...], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        try:
            self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
            os.chmod(self._path, 0o600)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFailed("vault-state", f"{self._path} cannot be opened: {error}") from None

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")  # a use is on the disk before it is granted
        self._database.execute("PRAGMA secure_delete = ON")  # what is dropped is overwritten
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise EnvironmentFailed(
                "vault-state",
                f"{self._path} has version {version}, this Coatcheck knows {_VERSION}: use the newer one",
            )

    def placeholders(self) -> list[Stored]:
        """Every placeholder that is still known. Raises EnvironmentFailed. For the start only."""
        return [self._stored(row) for row in self._rows("SELECT * FROM placeholder ORDER BY made, parent IS NOT NULL")]

    def last_head(self) -> SignedHead | None:
        """The head that was signed last. Raises EnvironmentFailed. For the start only."""
        rows = self._rows("SELECT sequence, hash, time, key_id, signature FROM head")
        if not rows:
            return None
        row = msgspec.convert(rows[0], _HeadRow)
        return SignedHead(Head(row.sequence, row.hash, row.time), row.key_id, row.signature)

    def added(self, binding: Binding, parent: bytes | None, made: float, text: str) -> Change:
        """The change that keeps a new placeholder."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._seal.encrypt(nonce, text.encode("ascii"), binding.digest)
        narrowing = binding.narrowing
        return Change(
            "INSERT INTO placeholder VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)",
            (
                binding.digest,
                parent,
                binding.job,
                binding.secret,
                narrowing.host,
                narrowing.method,
                narrowing.path,
                binding.expires,
                binding.uses_left,
                made,
                sealed,
            ),
        )

    async def write(self, changes: Iterable[Change]) -> None:
        """Carries the changes out, all or none, and returns once they are on the disk.

        Raises EnvironmentFailed("vault-disk"). A cancelled caller's changes are carried out all the same.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((tuple(changes), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.ensure_future(self._write_pending())
        await done

    async def close(self) -> None:
        """Waits for what is being written, then closes."""
        if self._writer is not None and not self._writer.done():
            await self._writer
        self._thread.shutdown()
        self._database.close()

    async def _write_pending(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                failed = await loop.run_in_executor(self._thread, self._commit, [changes for changes, _ in batch])
            except BaseException as error:
                failed = [f"the writer ended ({type(error).__name__})"] * len(batch)
                self._tell(batch, failed)
                raise
            self._tell(batch, failed)

    def _tell(self, batch: list[tuple[tuple[Change, ...], asyncio.Future[None]]], failed: list[str]) -> None:
        for (_, done), problem in zip(batch, failed, strict=True):
            if done.done():
                continue  # the caller was cancelled
            if problem:
                done.set_exception(EnvironmentFailed("vault-disk", f"{self._path} cannot be written: {problem}"))
            else:
                done.set_result(None)

    def _commit(self, batch: list[tuple[Change, ...]]) -> list[str]:
        """One transaction for all; if it fails, each on its own, so that one bad change does not fail the rest."""
        problem = self._transact([change for changes in batch for change in changes])
        if not problem:
            return [""] * len(batch)
        if len(batch) == 1:
            return [problem]
        return [self._transact(changes) for changes in batch]

    def _transact(self, changes: Iterable[Change]) -> str:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, values in changes:
                self._database.execute(statement, values)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                try:
                    self._database.execute("ROLLBACK")
                except sqlite3.Error as again:
                    return f"{error}; {again}"
            return str(error)
        return ""

    def _rows(self, query: str) -> list[tuple[Value, ...]]:
        try:
            return self._database.execute(query).fetchall()
        except sqlite3.Error as error:
            raise EnvironmentFailed("vault-state", f"{self._path} cannot be read: {error}") from None

    def _stored(self, values: tuple[Value, ...]) -> Stored:
        row = msgspec.convert(values, _Row)
        text = ""
        if row.sealed is not None:
            try:
                text = self._seal.decrypt(row.sealed[:_NONCE], row.sealed[_NONCE:], row.digest).decode("ascii")
            except (InvalidTag, ValueError):
                raise EnvironmentFailed(
                    "vault-state", f"{self._path} was sealed with another key than the one beside it; restore both"
                ) from None
        narrowing = Narrowing(row.host, row.method, row.path)
        binding = Binding(row.digest, row.job, row.secret, narrowing, row.expires, row.uses_left)
        return Stored(binding, row.parent, row.made, row.revoked, text)


USES_LEFT = "UPDATE placeholder SET uses_left = ? WHERE digest = ?"
REVOKED = "UPDATE placeholder SET revoked = ?, sealed = NULL WHERE digest = ?"
TEXT_DROPPED = "UPDATE placeholder SET sealed = NULL WHERE digest = ?"
FORGOTTEN = "DELETE FROM placeholder WHERE digest = ?"
HEAD_SIGNED = "INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?, ?)"


def _sealing_key(path: Path, *, made_before: bool) -> bytes:
    key = read_private(path)
    if key is None:
        if made_before:
            raise EnvironmentFailed(
                "vault-state",
                f"{path} is missing beside vault.sqlite3; restore it, or remove the database too (running jobs' "
                "placeholders are then void)",
            )
        key = AESGCM.generate_key(256)
        write_private(path, key)
    if len(key) != 32:
        raise EnvironmentFailed("vault-state", f"{path} is damaged; restore it")
    return key
