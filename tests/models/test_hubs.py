"""Downloading from Hugging Face and from ModelScope: a loopback server stands in for both, their own clients ask it.

Each command runs in a process of its own, forked from one in which the clients have read the variables that they read
when they are imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from forked_python import FIRST_ENVIRONMENT, PythonServer
from loopback_hubs import Served, environment_of, hub_of
from weitiao.core.errors import ModelError, SettingsError
from weitiao.models.hubs.hub import MIRROR, HubModel, HubName, chosen_hub, other_ways
from weitiao.models.resolve import hub_model, public_name
from weitiao.models.settings import ModelSettings

ID = "Qwen/Qwen2.5-0.5B-Instruct"
ALIAS = "qwen2.5-0.5b-instruct"
FETCH = """
import json, sys
from weitiao.core.errors import WeitiaoError
from weitiao.models.hubs.fetch import fetch_model
from weitiao.models.resolve import resolve
from weitiao.models.settings import ModelSettings
settings, events = ModelSettings(**json.loads(sys.argv[1])), []
try:
    fetch_model(settings, events.append)
    print(json.dumps({"events": events, "path": resolve(settings).path}))
except WeitiaoError as error:
    print(json.dumps({"events": events, "error": type(error).__name__, "text": str(error)}))
"""
HAS_MODELSCOPE = pytest.param(
    "modelscope",
    marks=pytest.mark.skipif(
        not any((Path(place) / "modelscope_hub").is_dir() for place in sys.path),
        reason="the extra modelscope is not installed",
    ),
)
BOTH = ["huggingface", HAS_MODELSCOPE]
PATH = os.pathsep.join(filter(None, sys.path))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that both clients keep their caches in; empty when a test begins."""
    return tmp_path_factory.mktemp("hubs") / "home"


@pytest.fixture(scope="module")
def one_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A hub at an address that stays the same."""
    with hub_of(tmp_path_factory.mktemp("none"), ID) as hub:
        yield hub


@pytest.fixture(scope="module")
def python(one_hub: Served, home: Path) -> Iterator[PythonServer]:
    """Runs Python in processes in which the clients have read this hub's address and the folder of their caches."""
    needed = ("torch", "transformers.models.llama.modeling_llama")
    server = PythonServer({**FIRST_ENVIRONMENT, **environment_of(one_hub, home)}, needed)
    yield server
    server.close()


@pytest.fixture
def served(one_hub: Served, home: Path, tmp_path: Path) -> Iterator[Served]:
    """A hub with one tiny model."""
    shutil.rmtree(home, ignore_errors=True)
    one_hub.folder = tiny.save_tiny_model(tmp_path / "served")
    one_hub.gated, one_hub.cut = False, set()
    one_hub.asked.clear()
    yield one_hub


def surroundings(served: Served, home: Path) -> dict[str, str]:
    """Return the environment of a process that asks a hub."""
    return {**os.environ, **environment_of(served, home), "PYTHONPATH": PATH}


def told_by(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """Return what a download told."""
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


Fetched = Callable[..., dict[str, object]]


@pytest.fixture
def fetched(served: Served, home: Path, python: PythonServer) -> Fetched:
    """Downloads a model in a process of its own, and returns what it told."""

    def fetch(code: str = FETCH, **settings: object) -> dict[str, object]:
        words = ["-c", code, json.dumps({"name": ALIAS, **settings})]
        return told_by(python.run(words, environment=surroundings(served, home)))

    return fetch


@pytest.mark.parametrize("hub", BOTH)
def test_a_model_is_downloaded_once_and_its_size_said_first(
    hub: str, fetched: Fetched, served: Served, home: Path
) -> None:
    told = fetched(hub=hub)
    (stage, *transfers) = told["events"]  # type: ignore[misc]
    assert stage["event"] == "stage" and ID in stage["text"] and "KiB" in stage["text"]
    assert "free at" in stage["text"]
    last = transfers[-1]
    assert last["event"] == "transfer" and last["done"] == last["total"] > 100_000
    caches = {"huggingface": home / "hf", "modelscope": home / "modelscope"}
    (weights,) = caches[hub].rglob("model.safetensors")
    assert weights.read_bytes() == (served.folder / "model.safetensors").read_bytes()
    served.asked.clear()
    again = fetched(hub=hub)
    assert (again["events"], [path for path in served.asked if ID in path]) == ([], [])


@pytest.mark.parametrize("hub", BOTH)
def test_several_files_are_those_of_the_index(hub: str, fetched: Fetched, served: Served, home: Path) -> None:
    from safetensors.torch import save_file

    weights = load_file(served.folder / "model.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: names[n % 2] for n, name in enumerate(weights)}
    for part in names:
        save_file({n: t for n, t in weights.items() if weight_map[n] == part}, served.folder / part)
    (served.folder / "model.safetensors").rename(served.folder / "consolidated.safetensors")
    (served.folder / "pytorch_model.bin").write_bytes(b"not wanted")
    index = {"metadata": {}, "weight_map": weight_map}
    (served.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    fetched(hub=hub)
    here = {path.name for path in home.rglob("*") if path.parent.parent.name == "snapshots"}
    assert here >= {*names, "config.json", "tokenizer.json"}
    assert not here & {"consolidated.safetensors", "pytorch_model.bin"}


@pytest.mark.parametrize("hub", BOTH)
def test_a_download_that_breaks_off_goes_on_with_the_same_command(
    hub: str, fetched: Fetched, served: Served
) -> None:
    served.cut = {"model.safetensors"}
    told = fetched(hub=hub)
    assert told["error"] == "ModelError" and "was interrupted" in str(told["text"])
    assert "the same command again" in str(told["text"])
    served.cut = set()
    assert "error" not in fetched(hub=hub)


FULL = "import collections, shutil\nshutil.disk_usage = lambda _: collections.namedtuple('U', 'free')(1000)\n"


@pytest.mark.parametrize("hub", BOTH)
def test_a_disk_that_is_too_small_is_known_before_the_weights_are_asked_for(
    hub: str, fetched: Fetched, served: Served
) -> None:
    for path in served.folder.iterdir():  # what is small is small enough for the disk
        if path.name not in ("model.safetensors", "config.json"):
            path.unlink()
    told = fetched(FULL + FETCH, hub=hub)
    assert (told["error"], told["events"]) == ("ResourceError", [])
    assert "too little disk for the download" in str(told["text"])
    assert {"huggingface": "HF_HOME", "modelscope": "MODELSCOPE_CACHE"}[hub] in str(told["text"])
    assert not [path for path in served.asked if "safetensors" in path]


@pytest.mark.parametrize("hub", BOTH)
def test_a_hub_that_cannot_be_reached(hub: str, tmp_path: Path) -> None:
    nowhere = Served(tmp_path, ID, "http://127.0.0.1:9")
    words = [sys.executable, "-c", FETCH, json.dumps({"name": ALIAS, "hub": hub})]
    environment = surroundings(nowhere, tmp_path)
    text = str(told_by(subprocess.run(words, env=environment, capture_output=True, text=True))["text"])
    assert "cannot be reached" in text and "smollm2-135m" in text
    if hub == "huggingface":
        assert f"export HF_ENDPOINT={MIRROR}" in text and "unset HF_ENDPOINT" in text
        assert "export WEITIAO_HUB=modelscope" in text
    else:
        assert "export WEITIAO_HUB=huggingface" in text


@pytest.mark.parametrize("hub", BOTH)
def test_a_model_that_the_hub_has_not(hub: str, fetched: Fetched) -> None:
    text = str(fetched(hub=hub, name="owner/qwen2.5-0.5b-instuct")["text"])
    assert "has no such model" in text and ALIAS in text


def test_a_gated_model(fetched: Fetched, served: Served) -> None:
    served.gated = True
    text = str(fetched()["text"])
    assert "accept its terms first" in text and "hf auth login" in text


@pytest.mark.parametrize("hub", BOTH)
def test_pickled_weights_name_the_command_that_converts_them(
    hub: str, fetched: Fetched, served: Served
) -> None:
    weights = served.folder / "model.safetensors"
    torch.save(load_file(weights), served.folder / "pytorch_model.bin")
    weights.unlink()
    assert f"weitiao models convert {ID}" in str(fetched(hub=hub)["text"])


@pytest.mark.parametrize("hub", BOTH)
def test_a_hubs_pickled_model_is_downloaded_and_converted(
    hub: str, served: Served, home: Path, python: PythonServer, tmp_path: Path
) -> None:
    weights = served.folder / "model.safetensors"
    own = load_file(weights)
    torch.save(own, served.folder / "pytorch_model.bin")
    weights.unlink()
    words = ["-m", "weitiao", "models", "convert", ALIAS, "--hub", hub]
    done = python.run(words, folder=tmp_path, environment=surroundings(served, home))
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / f"{ALIAS}-safetensors" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())
    assert "downloading" in done.stdout and "converting" in done.stdout


def test_the_settings_name_the_hub_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEITIAO_HUB", raising=False)
    assert (chosen_hub(None), chosen_hub("modelscope")) == ("huggingface", "modelscope")
    monkeypatch.setenv("WEITIAO_HUB", "ModelScope")
    assert (chosen_hub(None), chosen_hub("huggingface")) == ("modelscope", "huggingface")
    monkeypatch.setenv("WEITIAO_HUB", "modlescope")
    with pytest.raises(SettingsError, match="try       export WEITIAO_HUB=modelscope"):
        chosen_hub(None)


@pytest.mark.parametrize(
    ("name", "hub", "wanted"),
    [
        ("llama-3.1-8b-instruct", "huggingface", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama-3.1-8b-instruct", "modelscope", "LLM-Research/Meta-Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-3.1-8B-Instruct", "modelscope", "LLM-Research/Meta-Llama-3.1-8B-Instruct"),
        ("LLM-Research/Meta-Llama-3.1-8B-Instruct", "huggingface", "meta-llama/Llama-3.1-8B-Instruct"),
        ("modelscope:owner/name", "huggingface", "owner/name"),
        ("tiiuae/falcon-11B", "modelscope", "tiiuae/falcon-11B"),
        ("tiiuae/Falcon3-1B-Instruct", "modelscope", "tiiuae/Falcon3-1B-Instruct"),
    ],
)
def test_a_name_is_the_right_id_on_either_hub(name: str, hub: HubName, wanted: str) -> None:
    found = hub_model(ModelSettings(name=name, hub=hub, revision="v1"))
    assert found == HubModel("modelscope" if name.startswith("modelscope:") else hub, wanted, "v1")


def test_an_alias_without_an_id_on_modelscope_is_refused() -> None:
    with pytest.raises(ModelError, match="--hub huggingface, which has it as Langboat/bloom-389m-zh"):
        hub_model(ModelSettings(name="bloom-389m-zh", hub="modelscope"))


def test_the_mirror_in_use_is_not_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{MIRROR}/")
    assert "unset HF_ENDPOINT" in other_ways("huggingface") and "export HF_ENDPOINT" not in other_ways(
        "huggingface"
    )
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = other_ways("huggingface", ["gpt2"])
    assert text.startswith("gpt2, if that was meant\nunset HF_HUB_OFFLINE")
    assert f"export HF_ENDPOINT={MIRROR}" in text


LOAD = """
import json, sys
from weitiao.models.load import load_generation_config, load_model, load_tokenizer
from weitiao.models.settings import ModelSettings
settings = ModelSettings(**json.loads(sys.argv[1]), device_map="cpu")
load_tokenizer(settings), load_generation_config(settings)
print(json.dumps({"parameters": load_model(settings).num_parameters()}))
"""


@pytest.mark.parametrize("hub", BOTH)
def test_a_model_that_is_on_the_disk_is_loaded_without_the_hub(
    hub: str, fetched: Fetched, served: Served
) -> None:
    fetched(hub=hub)
    served.asked.clear()
    assert fetched(LOAD, hub=hub) == {"parameters": tiny.make_llama().num_parameters()}
    assert [path for path in served.asked if ID in path] == []


@pytest.mark.parametrize(
    ("name", "public"),
    [
        (ALIAS, ID),
        (ID, ID),
        ("modelscope:owner/name", "owner/name"),
        ("smollm2-135m", "smollm2-135m"),
        ("owner/name", "owner/name"),
    ],
)
def test_an_adapter_names_a_base_that_others_can_load(name: str, public: str, tmp_path: Path) -> None:
    assert public_name(name) == public
    assert public_name(str(tmp_path)) == tmp_path.name
