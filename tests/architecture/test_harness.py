"""The tests' own surroundings: the network is shut, and the tiny models are what they say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import tiny
from plain_python import output_of_plain, run_plain


def test_a_connection_to_another_machine_is_refused() -> None:
    with socket.socket() as connection, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        connection.connect(("192.0.2.1", 80))


def test_a_name_of_another_machine_is_not_looked_up() -> None:
    with pytest.raises(AssertionError, match="no network"):
        socket.create_connection(("huggingface.co", 443), timeout=1)


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_the_cache_is_a_folder_of_its_own(weitiao_home: Path) -> None:
    assert Path(os.environ["WEITIAO_HOME"]) == weitiao_home
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_tiny_tokenizer_gives_any_text_back() -> None:
    tokenizer = tiny.make_tokenizer()
    text = "<|im_start|>user\nmixed 中文 and\ttabs\r\n🙂  double  spaces<|im_end|>\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_the_tiny_model_is_decided_by_its_seed(tiny_model_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    state_before = torch.random.get_rng_state()
    one, same, other = tiny.make_llama(), tiny.make_llama(), tiny.make_llama(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state_before)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    assert torch.equal(loaded.lm_head.weight, one.lm_head.weight)


def test_a_plain_process_has_peft_and_not_weitiao(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("word = 'found'")
    script = """
import os, sys, beside
print([name for name in ("torch", "transformers", "peft", "weitiao") if name in sys.modules])
print(os.getcwd(), sys.argv[1:], beside.word, sys.stdin.read())
sys.exit("in the end")
"""
    ended = run_plain(script, "a", "b", folder=tmp_path, typed="typed")
    assert (ended.returncode, ended.stderr) == (1, "in the end\n")
    assert ended.stdout == f"['torch', 'transformers', 'peft']\n{tmp_path} ['a', 'b'] found typed\n"
    assert "ZeroDivisionError" in run_plain("1 / 0").stderr


def test_each_plain_process_is_a_fresh_one() -> None:
    output_of_plain("import sys; sys.modules['weitiao'] = None; sys.modules['numpy'].left = 1")
    assert output_of_plain("import sys; print(hasattr(sys.modules['numpy'], 'left'))") == "False\n"
