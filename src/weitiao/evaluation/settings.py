"""Settings of generation: how answers are chosen, how long they may be and where they end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..core.settings import Settings


class GenerationSettings(Settings):
    """How answers are generated."""

    max_new_tokens: int = Field(default=256, ge=1)
    """The most tokens an answer may have."""
    min_new_tokens: int = Field(default=0, ge=0)
    """The fewest tokens an answer has; it cannot end before."""
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Sampling temperature; 0 always takes the likeliest token, 1 samples with the model's own probabilities."""
    top_k: int = Field(default=0, ge=0)
    """Sample among the k likeliest tokens only; 0 is all. Needs temperature above 0."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens that together reach this probability; 1 is all. Needs temperature above 0."""
    repetition_penalty: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Above 1, tokens that occurred before become less likely; 1 is off."""
    num_beams: int = Field(default=1, ge=1)
    """Beams of beam search, which looks for the likeliest whole answer; 1 is no search."""
    num_return_sequences: int = Field(default=1, ge=1)
    """How many answers each question gets; needs temperature above 0, or as many beams."""
    stop: list[str] = Field(default=[])
    """Texts at which an answer is cut off; they are not part of it."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Seed of sampling; the same seed gives the same answers."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
        return [stop] if isinstance(stop, str) else stop

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, stop: list[str]) -> list[str]:
        if "" in stop:
            raise ValueError("an empty stop text would cut off every answer at its beginning")
        return stop

    @model_validator(mode="after")
    def _no_contradiction(self) -> GenerationSettings:
        found = list(self._contradictions())
        if found:
            raise ValueError("; ".join(found))
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.min_new_tokens > self.max_new_tokens:
            yield f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens {self.max_new_tokens}"
        if self.temperature == 0 and (self.top_k > 0 or self.top_p < 1):
            yield "top_k and top_p need temperature above 0"
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            yield f"num_beams {self.num_beams} is less than num_return_sequences {self.num_return_sequences}"
        if self.num_beams == 1 and self.temperature == 0 and self.num_return_sequences > 1:
            yield f"num_return_sequences {self.num_return_sequences} needs temperature above 0 or as many num_beams"

    @property
    def streams(self) -> bool:
        """Whether an answer can be streamed: only one, and without beam search, which can change its beginning."""
        return self.num_beams == 1 and self.num_return_sequences == 1
