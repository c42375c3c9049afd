"""The routes of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from graft.errors import GraftError
from graft.names import plain
from graft.serving import descriptions, kserve
from graft.serving.abstaining import UNSURE
from graft.serving.batching import Given
from graft.serving.fetching import Fetcher
from graft.serving.guarding import UNEXPECTED, App, Door, Guard, as_answer
from graft.serving.intake import Body, Room, read_body, read_images
from graft.serving.metrics import Metrics
from graft.serving.page import Page
from graft.serving.refusal import Gone, Refusal
from graft.serving.service import Answers, Service
from graft.serving.settings import Access
from graft.serving.web import CORSMiddleware, FastAPI, HTTPException, JSONResponse, PlainTextResponse, Request, Response

Result = TypeVar("Result")
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
ASKED_HEADERS = ("Authorization", "Content-Type", "Inference-Header-Content-Length", "X-API-Key", "X-Request-ID")


@dataclass(frozen=True)
class Example:
    """One of the run's own images, as JPEG, that the page offers to try; `label` is its true class."""

    label: str
    jpeg: bytes


def application(service: Service, metrics: Metrics, access: Access, examples: Sequence[Example] = ()) -> App:
    """Return the application: all routes, behind the door and the guard."""
    from graft import __version__

    serving = service.serving
    app = FastAPI(
        title=f"graft: {serving.name}",
        version=__version__,
        description="Images in, labelled probabilities out.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # The door strips a trailing slash; curl would show nothing of a redirect.
        redirect_slashes=False,
    )
    metrics.watch(service)
    room = Room(serving.limits.held)
    _add_predict(app, service, metrics, room, Fetcher(access.url_hosts, serving.limits))
    _add_kserve(app, service, metrics, room)
    _add_administration(app, service, metrics, access)
    _add_page(app, service, access, examples)
    app.add_exception_handler(HTTPException, _no_such_path)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _unexpected)
    whole: App = Door(app, access)
    if access.origins:
        whole = CORSMiddleware(
            whole,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=list(ASKED_HEADERS),
            expose_headers=["X-Request-ID", "Retry-After", "Inference-Header-Content-Length"],
        )
    return Guard(whole, metrics)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    content, headers = as_answer(error, request.state.id)
    return Response(content, error.status, headers)


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = "expected a path that /openapi.json lists, got another: check the address"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another")
        sentence = f"expected the method {allowed} for this path, got {request.method[:20]}: see /openapi.json"
    return await _refused(request, Refusal(error.status_code, sentence))


async def _unexpected(request: Request, error: Exception) -> Response:
    # The guard logs it: the error is raised again after this answer.
    return await _refused(request, Refusal(500, UNEXPECTED))


def _add_predict(app: FastAPI, service: Service, metrics: Metrics, room: Room, fetcher: Fetcher) -> None:
    limits = service.serving.limits

    @app.post(
        "/predict",
        summary="Classify images",
        openapi_extra=descriptions.predict(),
        responses=descriptions.errors(400, 401, 403, 408, 413, 415, 422, 429, 500, 502, 503),
    )
    async def predict(request: Request) -> Response:
        body = Body(room, limits.seconds)
        try:
            await read_body(request.headers, request.receive, limits, body)
            kind = request.headers.get("content-type", "")
            images, wanted = await read_images(kind, body, request.query_params.multi_items(), limits, fetcher.fetch)
            if wanted.error_budget is not None:
                # Refused before anything is computed.
                service.model.threshold(wanted.error_budget)
            answers = await _answered(request, service, metrics, images, wanted.top)
        finally:
            body.close()
        pairs = zip(images, answers.of_images, strict=True)
        # By the model that answered, which a reload may have replaced by now.
        least = 0.0 if wanted.error_budget is None else answers.model.threshold(wanted.error_budget)
        predictions = [_prediction(image, answer, answers.model.classes, least) for image, answer in pairs]
        model = {"name": service.serving.name, "version": answers.model.version}
        told = {"id": request.state.id, "model": model, "predictions": predictions}
        if all("error" in each for each in predictions):
            return JSONResponse({"error": predictions[0]["error"], **told}, 422)
        return JSONResponse(told)


def _prediction(image: Given, answer: dict[str, Any], classes: Sequence[str], least: float) -> dict[str, Any]:
    """Return a prediction as `graft predict --format jsonl` writes it; below `least` confidence it has no answer."""
    if "error" in answer:
        return {"path": image.name, "error": answer["error"]}
    top = [[classes[number], probability] for number, probability in answer["top"]]
    told = {"path": image.name, "label": top[0][0], "probability": top[0][1], "top": top}
    if answer["top"][0][1] < least:
        told |= {"label": None, "abstained": UNSURE}
    return {**told, "explanation": answer["explanation"]} if "explanation" in answer else told


async def _answered(
    request: Request, service: Service, metrics: Metrics, images: list[Given], top: int | None = None
) -> Answers:
    answers = await _unless_gone(request, service.answer(images, top))
    failed = sum("error" in answer for answer in answers.of_images)
    metrics.images(len(images) - failed, failed)
    request.state.told = {"images": len(images), "undecodable": failed, "version": answers.model.version}
    return answers


async def _watch(request: Request) -> None:
    """Return when the client closes its connection, the only event that can follow the whole body."""
    await request.receive()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of some work; cancel it when the client closes its connection. Raises Gone."""
    working, watching = asyncio.create_task(work), asyncio.create_task(_watch(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _add_kserve(app: FastAPI, service: Service, metrics: Metrics, room: Room) -> None:
    serving = service.serving
    limits = serving.limits

    def check(model: str, version: str | None = None) -> None:
        if model != serving.name or version not in (None, service.model.version):
            asked = plain(model if version is None else f"{model}, version {version}")[:100]
            raise Refusal(
                404,
                f"expected the model {serving.name!r}, version {service.model.version}, got {asked!r}: see /v2/models/"
                f"{serving.name}",
            )

    @app.get("/v2/health/live", summary="Whether the service runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether every worker can answer")
    async def ready() -> Response:
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/v2", summary="The open inference protocol's metadata of the server")
    async def server() -> dict[str, Any]:
        return {"name": "graft", "version": app.version, "extensions": list(kserve.EXTENSIONS)}

    @app.get("/v2/models/{model}", summary="Metadata of the model", responses=descriptions.errors(404))
    @app.get("/v2/models/{model}/versions/{version}", include_in_schema=False)
    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        check(model, version)
        return kserve.metadata(serving.name, service.model)

    @app.get("/v2/models/{model}/ready", summary="Whether the model can answer", responses=descriptions.errors(404))
    @app.get("/v2/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(model: str, version: str | None = None) -> Response:
        check(model, version)
        return JSONResponse({"name": serving.name, "ready": service.ready}, 200 if service.ready else 503)

    @app.post(
        "/v2/models/{model}/infer",
        summary="Classify images by the open inference protocol",
        openapi_extra=descriptions.infer(),
        responses=descriptions.errors(400, 401, 404, 408, 413, 429, 500, 503),
    )
    @app.post("/v2/models/{model}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        check(model, version)
        body = Body(room, limits.seconds)
        try:
            await read_body(request.headers, request.receive, limits, body)
            asked = kserve.read_inference(request.headers, body, limits)
            answers = await _answered(request, service, metrics, asked.images)
        finally:
            body.close()
        content, headers = kserve.write_inference(serving.name, asked, answers)
        return Response(content, headers=headers)


def _add_administration(app: FastAPI, service: Service, metrics: Metrics, access: Access) -> None:
    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses=descriptions.errors(401),
    )
    async def scraped() -> Response:
        return Response(metrics.text(), media_type=PROMETHEUS)

    @app.post("/admin/reload", summary="Load the model again", responses=descriptions.errors(401, 403, 500))
    async def reload() -> dict[str, Any]:
        # With a key, the door has already asked for it.
        if access.key is None:
            raise Refusal(403, "expected a service with a key, got one without: send the process SIGHUP, or set a key")
        try:
            model = await service.reload()
        except GraftError as error:
            raise Refusal(500, f"the model that was loaded before still answers: {error}") from None
        return {"name": service.serving.name, "version": model.version}


def _add_page(app: FastAPI, service: Service, access: Access, examples: Sequence[Example]) -> None:
    page = Page()

    @app.get("/", include_in_schema=False)
    async def shown() -> Response:
        limits = service.serving.limits
        facts = {
            "name": service.serving.name,
            "bytes": limits.bytes,
            "key": access.key is not None,
            "examples": len(examples),
        }
        content, policy = page.filled(facts)
        return Response(content, media_type="text/html; charset=utf-8", headers={"content-security-policy": policy})

    @app.get("/examples", include_in_schema=False)
    async def labels() -> dict[str, Any]:
        return {"examples": [{"label": plain(example.label)} for example in examples]}

    @app.get("/examples/{number}", include_in_schema=False)
    async def example(number: str) -> Response:
        if not (number.isascii() and number.isdecimal() and len(number) < 4 and int(number) < len(examples)):
            raise Refusal(404, f"expected one of {len(examples)} examples, got another: count from 0")
        return Response(examples[int(number)].jpeg, media_type="image/jpeg")
