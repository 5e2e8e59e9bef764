"""Our log through the `eventsourcing` library's own recorder: an auditor's second, independent reader.

Needs the extra `audit`. For reading only: the library's writer takes no lock and would lose events to a tailing reader.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

SCHEMA = "rgrid"
TABLE = "stored_events"


@contextmanager
def library_recorder(dsn: str) -> Iterator[ApplicationRecorder]:
    """The library's recorder on `rgrid.stored_events`: `select_events(stream_id)`, `select_notifications(start,
    limit)`, `max_notification_id()`. `dsn` is a postgresql:// address, sockets as `?host=/folder`."""
    address = urlsplit(dsn)
    query = parse_qs(address.query)
    datastore = PostgresDatastore(
        dbname=address.path.lstrip("/"),
        host=query.get("host", [address.hostname or "localhost"])[0],
        port=query.get("port", [address.port or 5432])[0],
        user=unquote(query.get("user", [address.username or ""])[0]),
        password=unquote(query.get("password", [address.password or ""])[0]),
        schema=SCHEMA,
        originator_id_type="text",
    )
    try:
        yield PostgresApplicationRecorder(datastore, events_table_name=TABLE)
    finally:
        datastore.close()
