"""The artifact: one file per model and target. Writing, reading, checking."""

from edgeq.artifact.format import ArchInfo, ArtifactSizes, Golden, ModelImage, StepInfo, TensorInfo
from edgeq.artifact.write import write

__all__ = ["ArchInfo", "ArtifactSizes", "Golden", "ModelImage", "StepInfo", "TensorInfo", "write"]
