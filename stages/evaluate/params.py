"""The section `evaluate` of params.yaml."""

from typing import Annotated

from pydantic import Field

from stages.shared.params import Section
from stages.shared.tables import Change

Strengths = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=1)]


class Params(Section):
    """The section `evaluate` of params.yaml, which says what each means."""

    calibration_bins: int = Field(ge=2, le=100)
    changes: dict[Change, Strengths] = Field(min_length=1)
    changed_images: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)
