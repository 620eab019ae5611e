"""The artifact: one file per model and target. Writing, reading, checking."""

from edgeq.artifact.format import ArchInfo, ArtifactSizes, Golden, ModelImage, StepInfo, TensorInfo, Variant
from edgeq.artifact.read import Artifact, read
from edgeq.artifact.write import write, write_variants

__all__ = [
    "ArchInfo",
    "Artifact",
    "ArtifactSizes",
    "Golden",
    "ModelImage",
    "StepInfo",
    "TensorInfo",
    "Variant",
    "read",
    "write",
    "write_variants",
]
