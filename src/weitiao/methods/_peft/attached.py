"""Adapters on PEFT: attaching, saving, loading, switching off, merging."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import MALFORMED, ModelError, Problem, raise_all
from ...core.files import read_json_object
from ...models.anatomy import transposed_paths
from ...models.load import weightless_like
from ...models.precision import quantization_of
from ...models.weights.dequantize import dequantized, restore_transposed
from ...models.weights.files import some
from .._alternatives import DoesNotApply, require_applicable
from .._base import Attached, Method
from .._checks import refuse_not_finite, whole_weights_problems
from .._swap import swapped
from .quiet import renamed_in_transformers
from .register import PREFIX, register, require_mergeable, shares_on_merging
from .saved import complete, named_as_now, require_names_kept

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PretrainedConfig, PreTrainedModel

ADAPTER = "default"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FAST_SEGMENTS = frozenset({"lora_B", "lora_embedding_B"})


class PeftAttached(Attached):
    """A PEFT adapter on a model."""

    model: PeftModel

    def __init__(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> None:
        """Wrap a PEFT model, and convert its trainable parameters to fp32."""
        import torch

        self.model = model
        self.originals = originals
        """The base's own parameters that are changed, with their original values, which `disabled` restores."""
        if self.config.is_prompt_learning:
            self.context_tokens = int(self.config.num_virtual_tokens)
            # A prefix exists only as keys and values in the attention, so it does not shift the logits.
            is_prefix = self.config.to_dict()["peft_type"] == "PREFIX_TUNING"
            self.virtual_tokens = 0 if is_prefix else self.context_tokens
        for parameter in self.trainable().values():
            parameter.data = parameter.data.to(torch.float32)

    @property
    def config(self) -> PeftConfig:
        """PEFT's config of the adapter."""
        return self.model.peft_config[ADAPTER]

    def fast_parameters(self) -> frozenset[str]:
        """Return the names of LoRA's B matrices (Hayou et al., https://arxiv.org/abs/2402.12354)."""
        return frozenset(name for name in self.trainable() if FAST_SEGMENTS & set(name.split(".")))

    def undecayed_parameters(self) -> frozenset[str]:
        """Return the names of vectors, including those stored as one row or column: (IA)3's scale around 1.

        The matrices of a rank-1 adapter also have one row or column, but they are weights of linear layers, and decay.
        """
        from torch import nn

        matrices = {f"{path}.weight" for path, m in self.model.named_modules() if isinstance(m, nn.Linear)}
        return frozenset(
            name
            for name, parameter in self.trainable().items()
            if parameter.numel() == max(parameter.shape, default=1) and name not in matrices
        )

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors under the names they have in its file."""
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.model, adapter_name=ADAPTER, save_embedding_layers=False)
        return {name: tensor.detach() for name, tensor in state.items()}

    def saved_form(self) -> tuple[dict[str, Tensor], PeftConfig]:
        """Return the tensors and PEFT's config to write, in a form that loads on the unchanged base."""
        return self.state(), copy.deepcopy(self.config)

    def save(self, folder: Path) -> None:
        """Write adapter_model.safetensors and adapter_config.json.

        Raises NotFiniteError, or ModelError if there are no tensors; then nothing is written.
        """
        from safetensors.torch import save_file

        state, config = self.saved_form()
        refuse_not_finite(state, "the adapter")
        if not state:
            raise ModelError(
                Problem("the adapter holds no tensors, so there is nothing to save", str(folder))
            )
        folder.mkdir(parents=True, exist_ok=True)
        # safetensors refuses one tensor under two names, and tensors that are not contiguous.
        save_file(
            {n: t.clone().contiguous() for n, t in state.items()}, folder / WEIGHTS_FILE, {"format": "pt"}
        )
        config.inference_mode = True
        config.save_pretrained(str(folder))

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the context the model is bit-equal to the base, also in the base's biases that were trained."""
        with warnings.catch_warnings(), swapped(self.originals):
            # PEFT warns that trained biases stay active; `swapped` restores the original ones.
            warnings.filterwarnings("ignore", message="Careful, disabling adapter layers with bias")
            with self.model.disable_adapter():
                yield

    def merge(self) -> PreTrainedModel:
        """Return the plain model with the adapter folded in; this object and its model cannot be used afterwards.

        A quantised base is dequantised first: merging into the quantised weights would round the adapter away. That is
        exact for 4 bits. int8 layers round their inputs as well, which a merged model does not, so the outputs differ
        by that rounding. Raises ModelError if the method has no merged form, with PEFT's reason if only PEFT knows it.
        """
        require_mergeable(self.model)
        if self.config.is_adaption_prompt or self.config.is_prompt_learning:
            raise ModelError(_beside_the_weights(self.config))
        quantized = quantization_of(self.model.get_base_model().config) != "none"
        wrapped = self._on_dequantized_base() if quantized else self.model
        _untie_targets(wrapped)
        try:
            merged: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
        except (ValueError, NotImplementedError) as error:
            kind = _kind(self.config)
            what, beside = f"{kind} cannot be merged into this model", "keep the adapter unmerged"
            raise ModelError(
                refused_by_peft(what, error, "a method that merges, such as lora", beside)
            ) from error
        restore_transposed(merged)
        return merged

    @renamed_in_transformers()
    def _on_dequantized_base(self) -> PeftModel:
        from peft import get_peft_model, set_peft_model_state_dict

        state, config = self.saved_form()
        base = self.model.get_base_model()
        # Dequantising leaves these flags set, and (IA)3 refuses even to unload while they are.
        base.is_loaded_in_4bit = base.is_loaded_in_8bit = False
        wrapped = get_peft_model(dequantized(self.model.unload()), config)
        set_peft_model_state_dict(wrapped, state)
        return wrapped.eval()


def _kind(config: PeftConfig) -> str:
    """Return PEFT's name of a method in lower case, for an enum's member as for a plain string."""
    return str.lower(config.to_dict()["peft_type"])


def refused_by_peft(what: str, error: Exception, expected: str = "", remedy: str = "") -> Problem:
    """Describe what PEFT refused, with the first lines of its message."""
    first_lines = "\n".join(line.strip() for line in str(error).splitlines()[:3])
    return Problem(f"PEFT says that {what}", first_lines, expected, remedy)


def _beside_the_weights(config: PeftConfig) -> Problem:
    return Problem(
        "virtual tokens are no change of the model's weights and cannot be merged into them",
        _kind(config),
        "a method that changes weights, such as lora",
        "keep the adapter unmerged: chat, evaluation and plain peft load it as it is",
    )


def _untie_targets(model: PeftModel) -> None:
    """Give an adapted head or embedding weights of its own: merging into tied ones would change both.

    Raises ModelError if the model shares other weights too (Zamba's blocks): when it loads a model with an untied head,
    transformers shares none.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch.nn import Parameter

    tokens = model.get_base_model().get_input_embeddings()
    table = id((tokens.get_base_layer() if isinstance(tokens, BaseTunerLayer) else tokens).weight)
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    untied: set[int] = set()
    adapters: set[int] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and not shares_on_merging(module):
            base = module.get_base_layer()
            adapters |= {id(parameter) for parameter in module.parameters()} - {
                id(p) for p in base.parameters()
            }
            # Modules of experts have no parameter of that name.
            weight = dict(base.named_parameters(recurse=False)).get("weight")
            if owners[id(weight)] > 1:
                untied.add(id(weight))
                base.weight = Parameter(base.weight.detach().clone(), requires_grad=False)
    shared = {weight for weight, count in owners.items() if count > 1}
    if table in untied and shared - untied - adapters:
        what = "once merged, this model's head and embeddings differ, and transformers then shares no weights at all"
        raise ModelError(
            Problem(
                what,
                type(model.get_base_model()).__name__,
                "a model that shares no other weights",
                "keep the adapter",
            )
        )


class PeftMethod(Method):
    """A method implemented by PEFT; a subclass defines settings and `peft_config`."""

    @abstractmethod
    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Return PEFT's config of this method for this model."""

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return what the method says of itself that keeps it from this model (`on_quantized`, `on_transposed`)."""
        found = self.quantized_problems(quantization_of(config))
        return found or self.transposed_problems(model, transposed_paths(model))

    def quantized_problems(self, quantization: str) -> list[Problem]:
        """Return a problem if the base is quantised and the method needs its unpacked weights."""
        return [] if self.on_quantized else whole_weights_problems(self.name, quantization)

    def transposed_problems(self, model: PreTrainedModel, transposed: Collection[str]) -> list[Problem]:
        """Return a problem if the method reads weights as out x in, and some layers store them in x out."""
        if self.on_transposed or not transposed:
            return []
        what = f"{self.name} cannot adapt Conv1D layers, which store their weights transposed"
        names = ", ".join(sorted({path.rpartition(".")[2] for path in transposed}))
        got = f"{names} (Conv1D) in a {model.config.model_type} model"
        return [DoesNotApply(what, got, "linear layers")]

    def attach(self, model: PreTrainedModel) -> PeftAttached:
        """Put a new adapter on a model; raises ModelError if it does not apply."""
        require_applicable(self, model, model.config)
        config = self.peft_config(model)
        originals = _trained_biases(model, config)
        return self.attached(self.wrapped(model, config), originals)

    def plan(self, model: PreTrainedModel) -> PeftAttached:
        """Put a new adapter on a weightless model; initial values that need weights are left out.

        Raises ModelError if PEFT would not find the saved tensors again.
        """
        attached = PeftAttached(self.wrapped(model, self.peft_config(model)), [])
        require_names_kept(attached.model, attached.state())
        return attached

    @renamed_in_transformers()
    def wrapped(self, model: PreTrainedModel, config: PeftConfig) -> PeftModel:
        """Return PEFT's model around a base; raises ModelError if PEFT refuses."""
        from peft import get_peft_model

        register()
        try:
            return get_peft_model(model, config)
        except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
            what = f"{self.name} cannot be applied to this model with these settings"
            raise ModelError(refused_by_peft(what, error)) from error

    def attached(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> PeftAttached:
        """Finish a fresh adapter; a method with its own initial values sets them here."""
        return PeftAttached(model, originals)

    def continue_from(self, model: PreTrainedModel, folder: Path) -> PeftAttached:
        """Put a saved adapter on a model to train it further; raises ModelError, listing how it differs from the
        settings."""
        require_applicable(self, model, model.config)
        wanted = self.peft_config(model)
        problems = self._differences(wanted, saved_config(folder), folder)
        raise_all(ModelError, problems or _other_modules(model, wanted, folder))
        return load_adapter(model, folder, trainable=True)

    def _differences(self, wanted: PeftConfig, saved: PeftConfig, folder: Path) -> list[Problem]:
        """Return a problem for each setting in which a saved adapter differs, under the name used here."""
        want, have = wanted.to_dict(), saved.to_dict()
        if want["peft_type"] != have["peft_type"]:
            return [_of_another_method(str.lower(have["peft_type"]), folder)]
        return [
            Problem(
                f"the adapter to continue from has another {self.known_elsewhere.get(key, key)}",
                f"{_plain(want.get(key))} in the settings, {_plain(have[key])} in {folder}",
                "the same settings",
                f"method.{self.known_elsewhere.get(key, key)}={_plain(have[key])}",
            )
            for key in sorted(have)
            if key not in _not_compared(wanted) and _plain(want.get(key)) != _plain(have[key])
        ]


def _of_another_method(peft_type: str, folder: Path) -> Problem:
    """Describe an adapter to continue from that belongs to another method."""
    from .. import METHODS

    name = METHODS.spelling(peft_type.removeprefix(PREFIX.lower())) or f"peft:{peft_type}"
    what = "the adapter to continue from is of another method"
    return Problem(what, f"{name} in {folder}", "the method that made it", f"method.name={name}")


def _not_compared(wanted: PeftConfig) -> frozenset[str]:
    """Return the settings that may differ; for tasks with a trained head, PEFT itself adds to modules_to_save."""
    adds_head = wanted.to_dict()["task_type"] in HEAD_TASKS
    return NOT_COMPARED | {"modules_to_save"} if adds_head else NOT_COMPARED


def saved_config(folder: Path) -> PeftConfig:
    """Read an adapter's settings.

    Raises ModelError if the folder holds no adapter with safetensors weights, or settings that PEFT cannot use.
    """
    from peft import PeftConfig

    files = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in files]
    if missing:
        nested = [str(folder / "adapter")] if (folder / "adapter" / CONFIG_FILE).is_file() else []
        raise ModelError(
            Problem(
                "this folder holds no adapter that can be read",
                f"{folder} ({', '.join(files[:8]) or 'nothing'})",
                " and ".join(missing),
                " or ".join(nested),
            )
        )
    register()
    read_json_object(folder / CONFIG_FILE, ModelError)
    try:
        return PeftConfig.from_pretrained(str(folder))
    except MALFORMED as error:
        what = "the adapter's settings cannot be used"
        got = f"{folder / CONFIG_FILE}: {type(error).__name__}: {error}"
        raise ModelError(Problem(what, got, "settings as PEFT writes them")) from error


def load_adapter(model: PreTrainedModel, folder: Path, trainable: bool = False) -> PeftAttached:
    """Put a saved PEFT adapter on its base; raises ModelError if it was made for a model of another shape."""
    config = saved_config(folder)
    _stored_names(folder)
    complete(config, model, _stored_names(folder))
    originals = _trained_biases(model, config)
    try:
        with warnings.catch_warnings():
            # PEFT only warns of missing keys; here they are an error, raised below with their names.
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            wrapped = _from_folder(model, config, folder, trainable)
    except MALFORMED as error:
        first_lines = "\n".join(line.strip() for line in str(error).splitlines()[:3])
        raise ModelError(_does_not_fit(folder, first_lines)) from error
    if not trainable:
        wrapped.requires_grad_(False)  # PEFT leaves the base's trained biases trainable
    attached = PeftAttached(wrapped, originals)
    _require_same_names(attached, folder)
    return attached


@renamed_in_transformers()
def _from_folder(model: PreTrainedModel, config: PeftConfig, folder: Path, trainable: bool) -> PeftModel:
    from peft import PeftModel

    if config.is_prompt_learning:
        from .prompt import load_prompt

        return load_prompt(model, config, folder, trainable)
    return PeftModel.from_pretrained(model, str(folder), ADAPTER, is_trainable=trainable, config=config)


def _trained_biases(model: PreTrainedModel, config: PeftConfig) -> list[tuple[Parameter, Tensor]]:
    """Copy the base's biases, some of which an adapter with `bias` all or lora_only will change; they are few."""
    if config.to_dict().get("bias", "none") == "none":
        return []
    return [(p, p.data.clone()) for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"]


def _require_same_names(attached: PeftAttached, folder: Path) -> None:
    """Raise ModelError if the file lacks tensors of the adapter, holds unused ones, or numbers of another kind.

    Without the last check, loading would silently convert integers and complex numbers.
    """
    stored, expected = named_as_now(attached.model, _stored(folder)), attached.state()
    if stored.keys() != expected.keys():
        missing, left_over = expected.keys() - stored.keys(), stored.keys() - expected.keys()
        raise ModelError(_does_not_fit(folder, f"missing: {some(missing)}; unexpected: {some(left_over)}"))
    other = [n for n in stored if stored[n].is_floating_point() != expected[n].is_floating_point()]
    if other:
        kinds = f"{some(other)} ({str(stored[other[0]].dtype).removeprefix('torch.')})"
        raise ModelError(_does_not_fit(folder, f"tensors of another type: {kinds}"))


def _does_not_fit(folder: Path, detail: str) -> Problem:
    return Problem(
        "the adapter does not fit this model",
        f"{folder}: {detail}",
        "the base it was trained on (base_model_name_or_path)",
    )


NOT_COMPARED = frozenset({
    "base_model_name_or_path", "inference_mode", "revision", "peft_version", "auto_mapping", "task_type",
    "init_lora_weights", "runtime_config", "eva_config", "target_modules", "fan_in_fan_out",
    "layers_to_transform", "layers_pattern", "target_parameters", "rank_pattern", "alpha_pattern",
})  # fmt: skip
"""Settings that say where an adapter comes from or how it was initialised. The modules, with their ranks, are compared
one by one."""
HEAD_TASKS = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"})
"""The tasks, by PEFT's names, whose head is trained in full beside the adapter."""


@renamed_in_transformers()
def _other_modules(model: PreTrainedModel, wanted: PeftConfig, folder: Path) -> list[Problem]:
    """Return a problem if a saved adapter is on other modules than the settings choose, or has other sizes."""
    from peft import get_peft_model

    empty = get_peft_model(weightless_like(model), wanted)
    chosen = {name: tuple(tensor.shape) for name, tensor in PeftAttached(empty, []).state().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in named_as_now(empty, _stored(folder)).items()}
    only = some(chosen.keys() - stored.keys()), some(stored.keys() - chosen.keys())
    if chosen.keys() != stored.keys():
        got = f"only in the settings: {only[0]}; only in {folder}: {only[1]}"
        what = "the adapter to continue from is on other modules than the settings choose"
        return [Problem(what, got, "the same modules", "set method.target_modules to the adapter's")]
    # An empty tensor gets its size in training, such as the values that diff pruning keeps.
    other = [name for name in chosen if 0 not in chosen[name] and chosen[name] != stored[name]]
    if not other:
        return []
    got = f"{other[0]}: {chosen[other[0]]} in the settings, {stored[other[0]]} in {folder}"
    what = "the adapter to continue from has tensors of other sizes than the settings choose"
    return [Problem(what, got, "the same sizes", "set the method's rank to the adapter's")]


def _stored_names(folder: Path) -> set[str]:
    """Return the names of an adapter's tensors; raises ModelError if the file is incomplete."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        what = "the adapter's weights cannot be read"
        got = f"{folder / WEIGHTS_FILE}: {error}"
        raise ModelError(
            Problem(what, got, "a complete file, as it was saved", "copy the adapter again")
        ) from error


def _stored(folder: Path) -> dict[str, Tensor]:
    """Return an adapter's tensors; raises ModelError if the file is incomplete."""
    from safetensors.torch import load_file

    _stored_names(folder)
    tensors: dict[str, Tensor] = load_file(folder / WEIGHTS_FILE)
    return tensors


def _plain(value: object) -> object:
    """Convert a setting for comparison: a list equals a set, and an empty value equals None."""
    if isinstance(value, set | list | tuple | dict):
        return sorted(map(str, value)) or None
    return value
