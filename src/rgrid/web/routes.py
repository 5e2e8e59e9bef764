"""Which endpoint a path leads to: fixed segments win over `{id}`, a trailing slash doesn't matter."""

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

E = TypeVar("E")
SEGMENTS_MAX: Final = 32


@dataclass(slots=True)
class _Node(Generic[E]):
    fixed: "dict[str, _Node[E]]" = field(default_factory=dict)
    any: "_Node[E] | None" = None
    endpoint: E | None = None
    names: tuple[str, ...] = ()


class Routes(Generic[E]):
    """Path templates such as `/api/v1/keys/{key_id}`, each with what serves it."""

    def __init__(self) -> None:
        self._whole: dict[str, E] = {}
        self._root: _Node[E] = _Node()

    def add(self, template: str, endpoint: E) -> None:
        assert template.startswith("/"), template
        path = template.rstrip("/")
        if "{" not in path:
            assert path not in self._whole, f"{template} is declared twice"
            self._whole[path] = endpoint
        node, names = self._root, []
        for part in path.split("/")[1:]:
            if part.startswith("{"):
                names.append(part[1:-1])
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.fixed.setdefault(part, _Node())
        assert node.endpoint is None, f"{template} is declared twice"
        node.endpoint, node.names = endpoint, tuple(names)

    def find(self, path: str) -> tuple[E, dict[str, str]] | None:
        """The endpoint and the values of its path parameters; None when the path leads nowhere."""
        if not path.startswith("/"):
            return None
        path = path.rstrip("/")
        whole = self._whole.get(path)
        if whole is not None:
            return whole, {}
        parts = path.split("/")[1:]
        if len(parts) > SEGMENTS_MAX:
            return None
        node, values = self._root, []
        for part in parts:
            following = node.fixed.get(part)
            if following is None:
                # An empty segment is no id.
                if node.any is None or not part:
                    return None
                following = node.any
                values.append(part)
            node = following
        return None if node.endpoint is None else (node.endpoint, dict(zip(node.names, values, strict=True)))
