"""Names of methods in papers and other tools: what they are here, and what to type for them."""

from __future__ import annotations

from collections.abc import Mapping

_A_SETTING = "it is a setting of LoRA"
_IN_PEFT = "it is one of PEFT's methods, used with PEFT's own settings"
_OPTIMIZER = "it is an optimizer for full fine-tuning that is not supported yet"

KNOWN_ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "qlora": (
        "QLoRA is LoRA on a base in 4 bits",
        "--method lora model.quantization=nf4",
    ),
    "dora": (_A_SETTING, "--method lora method.use_dora=true"),
    "qdora": (_A_SETTING, "--method lora method.use_dora=true model.quantization=nf4"),
    "rslora": (_A_SETTING, "--method lora method.use_rslora=true"),
    "pissa": (_A_SETTING, "--method lora method.init_lora_weights=pissa"),
    "olora": (_A_SETTING, "--method lora method.init_lora_weights=olora"),
    "eva": (_A_SETTING, "--method lora method.init_lora_weights=eva"),
    "loftq": (_A_SETTING, "--method lora method.init_lora_weights=loftq model.quantization=nf4"),
    "loraplus": ("LoRA+ is LoRA with a setting of train", "--method lora train.loraplus_lr_ratio=16"),
    "lora+": ("LoRA+ is LoRA with a setting of train", "--method lora train.loraplus_lr_ratio=16"),
    "houlsby": ("it is a placement of bottleneck adapters", "--method adapter method.placement=houlsby"),
    "pfeiffer": ("it is a placement of bottleneck adapters", "--method adapter method.placement=pfeiffer"),
    "paralleladapter": (
        "it is a placement of bottleneck adapters",
        "--method adapter method.placement=parallel",
    ),
    "bottleneckadapter": ("bottleneck adapters are called adapter", "--method adapter"),
    "bottleneck": ("bottleneck adapters are called adapter", "--method adapter"),
    "prefix": ("it is called prefix_tuning", "--method prefix_tuning"),
    "prompt": ("it is called prompt_tuning", "--method prompt_tuning"),
    "softprompt": ("soft prompts are called prompt_tuning", "--method prompt_tuning"),
    "pt2": ("it is called p_tuning_v2", "--method p_tuning_v2"),
    "adaptionprompt": ("it is called llama_adapter", "--method llama_adapter"),
    "layernorm": ("it is called ln_tuning", "--method ln_tuning"),
    "bone": ("its authors call it MiSS now", "--method miss"),
    "kronecker": ("it is called lokr", "--method lokr"),
    "hadamard": ("it is called loha", "--method loha"),
    "sft": (
        "that is the objective; a method is the part of the model that is trained",
        "--method full or --method lora",
    ),
    "finetune": ("it is called full", "--method full"),
    "fullfinetuning": ("it is called full", "--method full"),
    "galore": (_OPTIMIZER, "--method full train.optimizer=adamw_8bit or --method lora"),
    "apollo": (_OPTIMIZER, "--method full train.optimizer=adamw_8bit or --method lora"),
    "badam": (_OPTIMIZER, "--method freeze or --method full train.optimizer=adamw_8bit"),
    "lisa": ("changing the trained blocks during a run is not supported yet", "--method freeze"),
    "boft": (_IN_PEFT, "--method peft:boft"),
    "c3a": (_IN_PEFT, "--method peft:c3a"),
    "fourierft": (_IN_PEFT, "--method peft:fourierft"),
    "hra": (_IN_PEFT, "--method peft:hra"),
    "randlora": (_IN_PEFT, "--method peft:randlora"),
    "vblora": (_IN_PEFT, "--method peft:vblora"),
    "waveft": (_IN_PEFT, "--method peft:waveft"),
}
"""A name in lower case, without punctuation but +, -> what it is here, and what to type."""


def read_as(name: str) -> list[str] | None:
    """Return the settings, as command-line words, that another tool's name stands for; None if it is unknown or means
    several."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")
    _, remedy = KNOWN_ELSEWHERE.get(plain, ("", ""))
    flag, *words = remedy.split() or [""]
    if flag != "--method" or "or" in words:
        return None
    return [f"method.name={words[0]}", *words[1:]]
