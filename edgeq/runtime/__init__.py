"""Python face of the runtime: load an artifact, run it, time it."""

from edgeq.runtime.load import load
from edgeq.runtime.model import Model, Profile, StepTime

__all__ = ["Model", "Profile", "StepTime", "load"]
