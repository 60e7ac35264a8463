"""The pages for people: the queue and the API's reference. No file comes from another server."""

from importlib import resources

import jinja2
from fastapi import APIRouter, Response

_TEMPLATES = {
    "/": ("landing.html.j2", "text/html; charset=utf-8"),
    "/docs": ("reference.html.j2", "text/html; charset=utf-8"),
    "/static/icon.svg": ("icon.svg.j2", "image/svg+xml"),
}
_FILES = {
    "/static/site.css": ("site.css", "text/css; charset=utf-8"),
    "/static/landing.js": ("landing.js", "text/javascript; charset=utf-8"),
    "/static/reference.js": ("reference.js", "text/javascript; charset=utf-8"),
}


def pages_router() -> APIRouter:
    """`/`, `/docs` and what they need, read once."""
    router = APIRouter(include_in_schema=False)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("annotator", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    for path, (name, media_type) in _TEMPLATES.items():
        _serve(router, path, templates.get_template(name).render().encode(), media_type)
    for path, (name, media_type) in _FILES.items():
        content = resources.files("annotator.pages").joinpath(name).read_bytes()
        _serve(router, path, content, media_type)
    return router


def _serve(router: APIRouter, path: str, content: bytes, media_type: str) -> None:
    async def page() -> Response:
        return Response(content, media_type=media_type)

    router.add_api_route(path, page, methods=["GET"])
