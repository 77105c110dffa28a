"""What every test runs under: no network, its own cache, one torch thread a worker; and the tiny fixtures."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tiny

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# Read when torch and huggingface_hub are imported, so set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WEITIAO_LANG"] = "en"
# Tests use thousands of shapes again and again, and oneDNN compiles a kernel for each one that it has not kept.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = os.environ["LRU_CACHE_CAPACITY"] = "1024"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# A shell starts what it runs in the background with Ctrl-C ignored, and every process of a test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FAST: dict[str, bool] = {"architecture": False, "core": False, "known_values": True, "contracts": True}
"""What `pytest --fast` (make test-fast) takes: the folder -> whether one case of each test is enough."""
NOT_FAST = ("test_one_file",)
"""Modules of these folders that run a suite of their own."""

LOOPBACK = ("127.", "::1", "localhost")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help="only what a change needs most: FAST in tests/conftest.py"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, under --fast, the folders that are not in FAST."""
    tests = Path(__file__).parent
    if not config.getoption("--fast") or tests not in collection_path.parents:
        return None  # which leaves it to pytest
    folder = collection_path.relative_to(tests).parts[0]
    return folder not in FAST or collection_path.stem in NOT_FAST or None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep, under --fast, one case of each test of the thinned folders: that of LoRA, else the first."""
    if not config.getoption("--fast"):
        return
    chosen: dict[str, pytest.Item] = {}
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name not in chosen or (_is_of_lora(item) and not _is_of_lora(chosen[name])):
            chosen[name] = item
    thinned = {folder for folder, one_case in FAST.items() if one_case}
    kept = [
        item
        for item in items
        if item.path.parts[-2] not in thinned or chosen[item.nodeid.partition("[")[0]] is item
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def _is_of_lora(item: pytest.Item) -> bool:
    return "lora" in item.nodeid.partition("[")[2].rstrip("]").split("-")


class NetworkRefused(AssertionError):
    """A test tried to reach beyond this machine."""


def _refuse_remote(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise NetworkRefused when Python is about to look up or connect to another machine (an audit hook)."""
    if event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0] or "localhost"
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if not host.startswith((*LOOPBACK, "0.0.0.0", "::")) and host != socket.gethostname():
        raise NetworkRefused(f"tests need no network, but this one reaches for {host}")


sys.addaudithook(_refuse_remote)


@pytest.fixture(scope="session", autouse=True)
def weitiao_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep what weitiao caches in a folder of this session, unless WEITIAO_HOME names one.

    Workers of pytest-xdist share it, so that the bundled model is converted once.
    """
    if "WEITIAO_HOME" not in os.environ:
        own = tmp_path_factory.getbasetemp()
        home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "weitiao-home"
        home.mkdir(exist_ok=True)
        os.environ["WEITIAO_HOME"] = str(home)
    return Path(os.environ["WEITIAO_HOME"])


@pytest.fixture(scope="session", autouse=True)
def products_as_in_a_run() -> Iterator[None]:
    """Let matrix products come from where a run takes them: on some processors MKL's are not the same twice."""
    from weitiao.engine.kernels.matmul import products_from

    with products_from("auto"):
        yield


@pytest.fixture(scope="session")
def chatml_tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer with a ChatML template, pad == eos == <|im_end|>."""
    return tiny.make_tokenizer()


@pytest.fixture
def tiny_llama() -> Callable[..., LlamaForCausalLM]:
    """The maker of tiny Llamas: `tiny_llama(hidden=32, layers=2, seed=0)`."""
    return tiny.make_llama


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama and its tokenizer; read only, one a session."""
    return tiny.save_tiny_model(tmp_path_factory.mktemp("tiny-llama"))
