"""Which model, in which precision, on which device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import field_validator, model_validator

from ..core.settings import DECIDES_NOTHING, Settings, Unfit, left_out
from .aliases import ALIASES
from .hubs.hub import HubName

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Quantization = Literal["none", "nf4", "fp4", "int8"]

FOUR_BITS = "quantization: nf4 or fp4"
LONG_NAMES: dict[str, str] = {
    "float32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
}


class ModelSettings(Settings):
    """Which model to start from and how to hold it in memory."""

    name: str
    """A local folder, a .gguf file, a Hugging Face hub id (owner/name), or an alias (`weitiao models`)."""
    dtype: Precision = "auto"
    """Precision of the weights: auto (bf16 on a GPU that has it, fp32 on a CPU), fp32, bf16, fp16."""
    quantization: Quantization = "none"
    """Quantise the base's linear layers to nf4 or fp4 (4 bits) or int8 with bitsandbytes; the base is then
    frozen."""
    double_quantization: bool = False
    """For nf4 and fp4: quantise the quantisation constants as well, which saves 0.4 bits per parameter."""
    compute_dtype: Precision = "auto"
    """Precision in which 4-bit layers compute: auto (as for `dtype`), fp32, bf16, fp16."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for a model whose authors you trust."""
    device_map: Annotated[str, DECIDES_NOTHING] = "auto"
    """Where to put the weights: auto (this process's accelerator, otherwise the CPU), cpu, cuda:1, balanced,
    sequential."""
    hub: Annotated[HubName | None, DECIDES_NOTHING] = left_out("(WEITIAO_HUB, else huggingface)")
    """Where an id or an alias is downloaded from: huggingface or modelscope."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    adapter: str | None = None
    """Folder of an adapter to continue training from."""
    allow_other_base: Annotated[bool, DECIDES_NOTHING] = False
    """Continue even if the base is not the one that the adapter or the checkpoints were trained on."""

    @model_validator(mode="before")
    @classmethod
    def _accept_a_bare_name(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
        return {"name": raw} if isinstance(raw, str) else raw

    @field_validator("dtype", "compute_dtype", mode="before")
    @classmethod
    def _accept_long_names(cls, raw: Any) -> Any:  # noqa: ANN401
        return LONG_NAMES.get(raw.removeprefix("torch."), raw) if isinstance(raw, str) else raw

    @field_validator("quantization", mode="before")
    @classmethod
    def _accept_no_quantization(cls, raw: Any) -> Any:  # noqa: ANN401
        return "none" if raw is None else raw

    @field_validator("name")
    @classmethod
    def _refuse_an_empty_name(cls, name: str) -> str:
        if not name.strip():
            raise Unfit("the name is empty", remedy="model.name=smollm2-135m")
        return name.lower() if name.lower() in ALIASES and not Path(name).exists() else name

    @model_validator(mode="after")
    def _refuse_what_needs_four_bits(self) -> ModelSettings:
        if self.quantization in ("nf4", "fp4"):
            return self
        if self.double_quantization:
            raise Unfit("double_quantization needs 4 bits", FOUR_BITS, "model.quantization=nf4")
        if self.compute_dtype != "auto":
            raise Unfit(
                "compute_dtype is for 4-bit layers", FOUR_BITS + ", or dtype", "model.quantization=nf4"
            )
        return self
