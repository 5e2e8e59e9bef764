"""Paths to endpoints."""

import pytest

from rgrid.web.routes import Routes

ROUTES: Routes[str] = Routes()
for template in ("/", "/a", "/a/{x}", "/a/fixed", "/a/{x}/b/{y}", "/a/fixed/c"):
    ROUTES.add(template, template)


@pytest.mark.parametrize(
    ("path", "template", "values"),
    [
        ("/", "/", {}),
        ("/a", "/a", {}),
        ("/a/", "/a", {}),
        ("/a/1", "/a/{x}", {"x": "1"}),
        ("/a/1/", "/a/{x}", {"x": "1"}),
        ("/a/fixed", "/a/fixed", {}),
        ("/a/1/b/2", "/a/{x}/b/{y}", {"x": "1", "y": "2"}),
        ("/a/é/b/ü", "/a/{x}/b/{y}", {"x": "é", "y": "ü"}),
        ("/a/fixed/c", "/a/fixed/c", {}),
    ],
)
def test_a_path_finds_its_endpoint(path: str, template: str, values: dict[str, str]) -> None:
    assert ROUTES.find(path) == (template, values)


@pytest.mark.parametrize(
    "path", ["/b", "/a/1/b", "/a//b/2", "/a/1/c", "/a/fixed/b/2", "/a/1/b/2/3", "/" + "x/" * 1000, "a"]
)
def test_other_paths_lead_nowhere(path: str) -> None:
    assert ROUTES.find(path) is None


def test_a_template_is_declared_once() -> None:
    routes: Routes[int] = Routes()
    routes.add("/a/{x}", 1)
    with pytest.raises(AssertionError):
        routes.add("/a/{y}", 2)
