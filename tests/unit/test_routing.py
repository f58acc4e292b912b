"""What a route may ask for in its signature: what is not served is refused when it is declared."""

from typing import Annotated

import pytest
from fastapi import APIRouter, BackgroundTasks, Cookie, Depends
from starlette.responses import Response

from app.api.routing import resource


@pytest.fixture
def router() -> APIRouter:
    return resource("things")


def test_a_cookie_is_refused(router: APIRouter) -> None:
    with pytest.raises(TypeError, match="asks for more"):

        @router.get("")
        async def get_things(crumb: Annotated[str, Cookie()]) -> Response:
            return Response(crumb)


def test_so_is_one_of_a_dependency(router: APIRouter) -> None:
    async def crumb(crumb: Annotated[str, Cookie()]) -> str:
        return crumb

    with pytest.raises(TypeError, match="asks for more"):

        @router.get("")
        async def get_things(found: Annotated[str, Depends(crumb)]) -> Response:
            return Response(found)


def test_so_are_a_response_to_fill_and_tasks_for_later(router: APIRouter) -> None:
    with pytest.raises(TypeError, match="asks for more"):

        @router.get("")
        async def get_things(response: Response) -> Response:
            return response

    with pytest.raises(TypeError, match="asks for more"):

        @router.post("")
        async def make_things(tasks: BackgroundTasks) -> Response:
            return Response(background=tasks)


def test_a_function_that_would_need_a_thread_is_refused(router: APIRouter) -> None:
    with pytest.raises(TypeError, match="not a coroutine function"):

        @router.get("")
        def get_things() -> Response:
            return Response()
