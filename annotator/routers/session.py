"""/api/session: who is signed in, by which browsers sign in and out."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from annotator.access import COOKIE, COOKIE_AGE_S, Access, CallerNow
from annotator.messages import Problem, Session, SignInRequest
from annotator.routers.items import REFUSALS, UNAVAILABLE

_STRANGER: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Nobody is signed in, or the token is nobody's."},
    **UNAVAILABLE,
}
_SIGN_IN: dict[int | str, dict[str, Any]] = {
    **_STRANGER,
    422: REFUSALS[422],
    429: {"model": Problem, "description": "Too many wrong tokens; see Retry-After."},
}
_SIGN_OUT: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "The X-CSRF-Token is not the session's."},
    **UNAVAILABLE,
}


def session_router(access: Access, categories: tuple[str, ...]) -> APIRouter:
    """The half of the API that strangers may call."""
    router = APIRouter(prefix="/api", tags=["session"])

    @router.get("/session", responses=_STRANGER, dependencies=[Depends(access.admit)])
    def session(caller: CallerNow) -> Session:
        """Who is signed in. Where nobody has to, `name` is null and everybody is a lead."""
        return Session(
            name=caller.name,
            role=caller.role,
            csrf_token=caller.csrf_token,
            sign_in_required=caller.signed_in,
            categories=categories,
        )

    @router.post("/session", responses=_SIGN_IN)
    def sign_in(wanted: SignInRequest, request: Request, response: Response) -> Session:
        """Sign in by a personal token, with a cookie that scripts cannot read."""
        opened = access.sign_in(request, wanted.token)
        response.set_cookie(
            COOKIE,
            opened.secret,
            max_age=COOKIE_AGE_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return Session(
            name=opened.session.name,
            role=opened.session.role,
            csrf_token=opened.session.csrf_token,
            sign_in_required=True,
            categories=categories,
        )

    @router.delete("/session", status_code=204, responses=_SIGN_OUT)
    def sign_out(request: Request, response: Response) -> None:
        """Sign out: the session ends at once. By cookie it needs the X-CSRF-Token."""
        access.sign_out(request)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")

    return router
