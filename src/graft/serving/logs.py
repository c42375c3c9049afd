"""Logs as one JSON object per line on stderr: what was asked and how it went, never an image or its name."""

import json
import logging
import sys
import time

from graft.names import readable

# Attributes that every record has; any others come from `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JSONLines(logging.Formatter):
    """Formats a record as one line: time, level, message, the values of `extra`, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": readable(record.getMessage()),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False, default=str)


def log_as_json(quiet: bool = False) -> None:
    """Make the service and the server below it log such lines; with `quiet`, errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    for name, level in (("graft.serving", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.ERROR if quiet else level)
    # It warns about malformed input, which the client is told about.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
