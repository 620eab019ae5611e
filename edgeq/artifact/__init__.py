"""The artifact: one file per model and target. Writing, reading, checking."""

from edgeq.artifact.format import ArchInfo, ArtifactSizes, Golden, ModelImage, StepInfo, TensorInfo
from edgeq.artifact.read import Artifact, read
from edgeq.artifact.write import write

__all__ = [
    "ArchInfo",
    "Artifact",
    "ArtifactSizes",
    "Golden",
    "ModelImage",
    "StepInfo",
    "TensorInfo",
    "read",
    "write",
]
