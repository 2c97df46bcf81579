"""The FastAPI application: the page, its files, `POST /score` and `POST /picture`; whatever scores is given to it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from sacro_ray.imaging.decode import Box
from sacro_ray.serving.answers import NOTICE, Answer, Picture, Refusal, Refused
from sacro_ray.serving.upload import CROP, FIELD, read_upload

PAGE = Path(__file__).with_name("page")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere and runs no script but its own."""
UNKEPT = {"Cache-Control": "no-store"}
"""Answers show the radiograph, and stay in no cache."""
Scorer = Callable[[bytes, Box | None, bool], Awaitable[Answer]]
Shower = Callable[[bytes], Awaitable[Picture]]

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The upload broke off"},
    413: {"model": Refusal, "description": "The file is too large"},
    415: {"model": Refusal, "description": "Not a form, or not an image"},
    422: {"model": Refusal, "description": "An image that cannot be scored, or a wrong parameter"},
    503: {"model": Refusal, "description": "Busy, or starting anew; try again"},
}
FIELDS: dict[str, dict[str, Any]] = {
    FIELD: {"type": "string", "format": "binary", "description": "a DICOM, TIFF, PNG or JPEG file"},
    **{
        key: {"type": "integer", "minimum": 0, "maximum": 999999, "description": "of the box, pixels of the file"}
        for key in CROP
    },
}


@dataclass(frozen=True)
class About:
    """What the page says about the run.

    Attributes:
        run: Its name.
        version: Of sacro_ray.
        cutoffs: Cut-off by name.
        largest_upload: Bytes.
        box_needed: It was trained on radiographs cut to boxes, and is given no others.
        usual_box: Median width and height of these boxes over those of the pictures, 0 to 1; None where not known.
    """

    run: str
    version: str
    cutoffs: Mapping[str, float]
    largest_upload: int
    box_needed: bool = False
    usual_box: tuple[float, float] | None = None


def build_app(score: Scorer, show: Shower, about: About) -> FastAPI:
    """The application.

    Args:
        score: The answer for a file's bytes and, if given, the box to cut it to, with overlay or without; or raises `Refused`.
        show: The whole picture in a file's bytes; or raises `Refused`.
        about: The run.
    """
    app = FastAPIOffline(
        title="sacro_ray",
        version=about.version,
        description=f"Scores one radiograph with the run {about.run}. {NOTICE} Nothing uploaded is kept or logged.",
        redoc_url=None,
        static_url="/docs-files",
    )
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    page = _page(about)

    @app.exception_handler(Refused)
    async def refuse(request: Request, refused: Refused) -> JSONResponse:
        return JSONResponse(refused.refusal.model_dump(), refused.status, UNKEPT)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        return await refuse(request, Refused(422, "wrong_parameter", "overlay is true or false"))

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})

    @app.post(
        "/score",
        responses=REFUSALS,
        openapi_extra=_form(FIELD, *CROP),
    )
    async def score_radiograph(
        request: Request,
        response: Response,
        overlay: Annotated[bool, Query(description="with the Grad-CAM map, as data URLs")] = False,
    ) -> Answer:
        """Score a radiograph: probability of definite radiographic sacroiliitis, calls at the run's cut-offs, remarks."""
        response.headers.update(UNKEPT)
        data, box = await read_upload(request, about.largest_upload)
        if about.box_needed and box is None:
            raise Refused(422, "no_box", f"this run was trained on radiographs cut to boxes; send the box in {', '.join(CROP)}")
        return await score(data, box, overlay)

    @app.post("/picture", responses=REFUSALS, openapi_extra=_form(FIELD))
    async def show_radiograph(request: Request, response: Response) -> Picture:
        """The whole radiograph as a picture, to draw the box on for a run that was trained on radiographs cut to boxes."""
        response.headers.update(UNKEPT)
        data, _ = await read_upload(request, about.largest_upload)
        return await show(data)

    return app


def _form(*fields: str) -> dict[str, Any]:
    """The description of a form with these `FIELDS`, of which the first alone has to be there."""
    schema = {"type": "object", "required": [FIELD], "properties": {name: FIELDS[name] for name in fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _page(about: About) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((PAGE / "index.html").read_text(encoding="utf-8"))
    return template.render(about=about, notice=NOTICE, limit_mib=f"{about.largest_upload / 2**20:g}")
