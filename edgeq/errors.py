"""Errors that help: what happened, where in the model, why, and what to do about it."""

from __future__ import annotations


class EdgeqError(Exception):
    """Base of every error a user can cause or meet.

    Args:
        what: one sentence, what could not be done.
        where: the place: file, node and layer name, option.
        why: the reason, as specific as it is known.
        hint: what to do next.
    """

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint
        super().__init__(self.render())

    def render(self) -> str:
        """The message as the command line prints it, one labelled line per part that is known."""
        lines = [self.what]
        lines += [f"  {label}: {text}" for label, text in self.parts() if text]
        return "\n".join(lines)

    def parts(self) -> list[tuple[str, str | None]]:
        """(label, text) of the optional parts, in the order they are printed."""
        return [("where", self.where), ("why", self.why), ("hint", self.hint)]

    def as_dict(self) -> dict[str, str | None]:
        """The same for machines (`--json`)."""
        return {"error": type(self).__name__, "what": self.what, **dict(self.parts())}

    def __reduce__(self) -> tuple[object, ...]:
        # Crosses process borders: worker processes raise these.
        return (_rebuild, (type(self), self.what, self.where, self.why, self.hint))


def _rebuild(cls: type[EdgeqError], what: str, where: str | None, why: str | None, hint: str | None) -> EdgeqError:
    return cls(what, where=where, why=why, hint=hint)


class ModelError(EdgeqError):
    """The model file can't be read, is invalid, or holds something that isn't supported."""


class UnsupportedOpError(ModelError):
    """An op, or one of its attributes, has no integer form here."""


class DataError(EdgeqError):
    """Calibration or evaluation data is missing, of the wrong shape or dtype, or not finite."""


class PolicyError(EdgeqError):
    """The policy file is malformed or names something that isn't in the model."""


class TargetError(EdgeqError):
    """Unknown target, broken target.toml, or a target that can't do what the graph needs."""


class ToolError(EdgeqError):
    """An external tool (linker, emulator, compiler) is missing or failed."""


class CompileError(EdgeqError):
    """The integer graph can't be compiled: overflow proof, missing kernel, code generation."""


class ArtifactError(EdgeqError):
    """An artifact is truncated, changed, or made for another CPU or ABI."""


class RunError(EdgeqError):
    """Running failed: wrong inputs, arena too small, device refused."""


class UsageError(EdgeqError):
    """Arguments that don't go together."""
