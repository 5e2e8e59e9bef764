"""What is said about a definition: a rule by its code, a sentence, and where."""

import msgspec


class Issue(msgspec.Struct, frozen=True):
    """`field` is the path in the document, such as `steps[2].then_step`."""

    code: str
    message: str
    step: str | None
    field: str | None


class StepAt(msgspec.Struct, frozen=True):
    """A step in the list of a definition."""

    index: int
    step: str

    def issue(self, code: str, message: str, field: str | None) -> Issue:
        """Something about this step; `field` is the path within it, None: the step as a whole."""
        path = f"steps[{self.index}]"
        return Issue(code, message, self.step, path if field is None else f"{path}.{field}")
