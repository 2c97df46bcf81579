"""What `POST /score` and `POST /picture` return, and why they refuse."""

from pydantic import BaseModel, Field

NOTICE = "For research use only; not for diagnosis."


class Call(BaseModel):
    """The call at one cut-off."""

    cutoff: float = Field(
        ge=0.0, description="just above 1 where no radiograph, not even one of probability 1, is to be definite"
    )
    definite: bool = Field(description="probability >= cut-off")


class Answer(BaseModel):
    """What the network says of a radiograph."""

    remarks: list[str] = Field(description="to be read before the number: a sentence for each of `quality`, the gravest first")
    probability: float = Field(ge=0.0, le=1.0, description="of definite radiographic sacroiliitis")
    calls: dict[str, Call] = Field(description="by name of the cut-off")
    quality: list[str] = Field(description="remarks on the image, as in scores.csv; they change no score")
    familiarity: float | None = Field(description="share of the validation radiographs, percent, at least as far from training")
    run: str
    checkpoint: str = Field(description="SHA-256 of the weights")
    version: str = Field(description="of sacro_ray")
    notice: str = NOTICE
    radiograph: str | None = Field(default=None, description="with overlay=true: what the network saw, PNG as a data URL")
    overlay: str | None = Field(
        default=None, description="with overlay=true: the same with the Grad-CAM map, PNG as a data URL"
    )


class Picture(BaseModel):
    """A whole radiograph, to draw a box on."""

    picture: str = Field(
        description="PNG as a data URL, in the grey levels that the network gets; may be smaller than the file's"
    )
    width: int = Field(gt=0, description="of the file's picture, pixels, in which boxes are given")
    height: int = Field(gt=0, description="of the file's picture, pixels")


class Refusal(BaseModel):
    """Why there is no answer."""

    reason: str = Field(description="a word for programs")
    detail: str = Field(description="a sentence for people")


class Refused(Exception):  # noqa: N818 - an outcome, not a fault
    """An upload that is not scored; becomes a `Refusal` with this HTTP status."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(status, reason, detail)
        self.status = status
        self.refusal = Refusal(reason=reason, detail=detail)
