"""Where the trained parameters sit, for every method: modules of the base, or none where the method adds its own."""

from __future__ import annotations

import tiny_architectures as tiny
from tiny_methods import every_method, make
from weitiao.methods._placement import MOST_NAMES, trained_modules


@every_method
def test_every_method_names_modules_of_the_base_or_none(name: str) -> None:
    model = tiny.make_model("llama")
    modules = [path for path, _ in model.named_modules()]
    said = trained_modules(make(name).attach(model).trainable(), modules)
    if said is None:  # virtual tokens belong to no module of the base
        return
    names, count = said
    leaves = {path.rpartition(".")[2] for path in modules}
    assert {leaf for leaf in names.split(", ") if not leaf.startswith("+")} <= leaves
    assert 0 < count <= len(modules)


def test_names_are_counted_once_and_many_are_shortened() -> None:
    modules = [
        "",
        "layers",
        "layers.0",
        "layers.0.q",
        "layers.1",
        "layers.1.q",
        *(f"m{n}" for n in range(12)),
    ]
    low_rank = [f"base_model.model.layers.{n}.q.lora_{m}.default.weight" for n in (0, 1) for m in "AB"]
    assert trained_modules(low_rank, modules) == ("q", 2)
    many = trained_modules([f"m{n}.weight" for n in range(12)], modules)
    assert many is not None and many[0].endswith(f", m{MOST_NAMES - 1}, +4") and many[1] == 12
    assert trained_modules(["prompt_encoder.default.embedding.weight"], modules) is None
