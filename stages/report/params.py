"""The section `report` of params.yaml."""

from pydantic import Field

from stages.shared.params import Section


class Params(Section):
    """The section `report` of params.yaml, which describes each parameter."""

    mistakes: int = Field(ge=1, le=500)
    mistakes_in_cell: int = Field(ge=1, le=100)
    examples: int = Field(ge=1, le=100)
    dpi: int = Field(ge=50, le=400)
