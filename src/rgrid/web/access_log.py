"""One JSON line for each log record; for each request one with its id, actor, route, status and time."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from rgrid.kernel.clock import monotonic_ms
from rgrid.web.exchange import Exchange

access: Final = logging.getLogger("rgrid.access")


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object; `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_exchange(exchange: Exchange) -> None:
    """Says how a request ended."""
    if not access.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {
        "request_id": exchange.request_id,
        "actor": exchange.principal.actor if exchange.principal else None,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "ms": monotonic_ms() - exchange.started_ms,
        "client": exchange.client_address,
    }
    if exchange.detail:
        fields["detail"] = exchange.detail
    access.info("request", extra={"fields": fields})


def log_to_stderr(level: str) -> None:
    """Everything from this level on, a line of JSON each."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("uvicorn", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of each chore that still runs when it is due again, which every chore does while the database is away.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
