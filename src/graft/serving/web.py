"""The only module that imports what the extra `serve` installs, so that only `graft serve` needs it."""

from graft.errors import InputError

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
    from python_multipart.exceptions import FormParserError as MultipartError
    from python_multipart.multipart import MultipartParser, parse_options_header
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise InputError(
        f"expected the packages for serving over HTTP, got no {error.name}: pip install 'graft-vision[serve]'"
    ) from None

__all__ = [
    "CORSMiddleware",
    "CollectorRegistry",
    "Counter",
    "FastAPI",
    "Gauge",
    "HTTPException",
    "Histogram",
    "HttpToolsProtocol",
    "JSONResponse",
    "MultipartError",
    "MultipartParser",
    "PlainTextResponse",
    "ProcessCollector",
    "Request",
    "Response",
    "generate_latest",
    "parse_options_header",
    "uvicorn",
]
