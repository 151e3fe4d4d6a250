"""Where a search's state is kept: a file of its own, or an Optuna storage that several processes share.

sqlite:///search.db, or a path that ends in .db, .sqlite or .sqlite3    one machine
postgresql://user@host/database, mysql+pymysql://…                      many machines
journal:///shared/search.log                                            many machines with one file system
grpc://host:13000                                                       an optuna.storages.run_grpc_proxy_server
"""

import contextlib
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nas.errors import UsageError

if TYPE_CHECKING:
    import optuna

SQLITE = (".db", ".sqlite", ".sqlite3")
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
SECONDS = 60  # that a process waits while another one writes to a file
ATTEMPTS = 8  # several processes make the tables of one database, and all but one of them fail at first


def storage_url(storage: str | Path | None) -> str | None:
    """Return the URL of an Optuna storage; None for a state file, or for nothing."""
    if storage is None:
        return None
    if "://" in str(storage):
        return str(storage)
    return f"sqlite:///{storage}" if Path(storage).suffix in SQLITE else None


def open_storage(url: str) -> "optuna.storages.BaseStorage":
    """Open an Optuna storage; databases get their tables if they have none.

    Raises:
        UsageError: It cannot be opened; the message says why and what is allowed.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    scheme, _, rest = url.partition("://")
    scheme, reason = DRIVERS.get(scheme, scheme), ""
    for attempt in range(ATTEMPTS):
        try:
            if scheme == "journal":
                return optuna.storages.JournalStorage(JournalFileBackend(rest))
            if scheme == "grpc":
                return _proxy(url)
            kwargs = {"connect_args": {"timeout": SECONDS}} if scheme == "sqlite" else {}
            database = optuna.storages.RDBStorage(f"{scheme}://{rest}", engine_kwargs=kwargs)
            return optuna.storages.get_storage(database)
        except Exception as error:  # of whichever driver
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if not _may_pass(error):
                break
            time.sleep(0.05 * 2**attempt * random.random())
    allowed = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, journal:///FILE, grpc://HOST:PORT"
    raise UsageError(f"storage {without_password(url)}: cannot be opened ({reason}); allowed: {allowed}")


def _proxy(url: str) -> "optuna.storages.BaseStorage":
    import optuna

    address = urlsplit(url)
    if not address.hostname or not address.port:
        raise ValueError("no host and port")
    with quiet_optuna():
        proxy = optuna.storages.GrpcStorageProxy(host=address.hostname, port=address.port)
    proxy.wait_server_ready(timeout=10)
    return proxy


def _may_pass(error: Exception) -> bool:
    """Whether a failure is of several processes that make the same tables at once."""
    raced = type(error).__name__ in ("IntegrityError", "ProgrammingError")
    return raced or "already exists" in str(error) or "locked" in str(error)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    before, at, after = url.rpartition("@")
    scheme, _, user = before.partition("://")
    return f"{scheme}://{user.partition(':')[0]}@{after}" if at else url


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna say nothing of new studies and of what is experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
