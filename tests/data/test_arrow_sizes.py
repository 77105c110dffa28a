"""What an arrow file says of its unpacked size is what it becomes, and a bomb is refused before it is unpacked."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from pyarrow import ipc

from weitiao.core.errors import DataError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.arrow_sizes import BadArrow, unpacked_sizes
from weitiao.data.sources.sources import read_source
from weitiao.data.sources.stream import Rows

MIB = 1 << 20
KINDS = [ipc.new_file, ipc.new_stream]
TABLE = pyarrow.table({
    "text": ["x" * 1000] * 500,
    "number": list(range(500)),
    "word": pyarrow.array(["q", "r"] * 250).dictionary_encode(),
    "list": [[1, 2]] * 500,
})  # fmt: skip


Opened = Callable[..., ipc.RecordBatchFileWriter]


def write(path: Path, kind: Opened, made: pyarrow.Table, compression: str | None) -> Path:
    """Write a table in batches of 200 rows."""
    options = ipc.IpcWriteOptions(compression=compression)
    with path.open("wb") as file, kind(file, made.schema, options=options) as out:
        out.write_table(made, max_chunksize=200)
    return path


def read(path: Path) -> Rows:
    """Read a file."""
    return read_source(SourceSettings(path=str(path)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_the_sizes_are_those_of_the_unpacked_batches(
    kind: Opened, compression: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.arrow", kind, TABLE, compression)
    sizes = [size for size in unpacked_sizes(path) if size]
    batches = TABLE.to_batches(200)
    numbers = [batch.drop_columns(["word"]).nbytes + batch["word"].indices.nbytes for batch in batches]
    words = TABLE["word"].chunk(0).dictionary.nbytes
    if compression is None:
        assert sizes == []
    else:
        # A list has an offset more than values.
        assert 0 <= sizes[0] - words <= 4
        assert all(abs(size - number) <= 16 for size, number in zip(sizes[1:], numbers, strict=True))
    assert len(read(path).rows) == 500


@pytest.fixture
def pool() -> Iterator[pyarrow.MemoryPool]:
    """Count arrow's memory, from nothing."""
    before = pyarrow.default_memory_pool()
    counted = pyarrow.proxy_memory_pool(before)
    pyarrow.set_memory_pool(counted)
    yield counted
    pyarrow.set_memory_pool(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["a batch", "a dictionary"])
def test_a_bomb_is_refused_before_it_is_unpacked(
    kind: Opened, what: str, tmp_path: Path, pool: pyarrow.MemoryPool
) -> None:
    values = pyarrow.array(["x" * MIB] * 150)
    if what == "a dictionary":
        values = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0], pyarrow.int32()), values)
    path = write(tmp_path / "a.arrow", kind, pyarrow.table({"a": values}), "zstd")
    del values
    made = pool.max_memory()
    assert pool.bytes_allocated() < MIB
    held = pyarrow.proxy_memory_pool(pyarrow.system_memory_pool())
    pyarrow.set_memory_pool(held)
    with pytest.raises(DataError, match="decompression bomb"):
        read(path)
    assert held.max_memory() < MIB < made


def test_a_damaged_file_is_named_and_read_no_further(tmp_path: Path) -> None:
    draw = random.Random(0)
    for kind in KINDS:
        whole = write(tmp_path / "a.arrow", kind, TABLE.slice(0, 5), "zstd").read_bytes()
        for number in range(60):
            content = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                content[draw.randrange(8, len(content))] = draw.randrange(256)
            path = tmp_path / f"{number}.arrow"
            path.write_bytes(content[: draw.randrange(8, len(content))] if number % 3 == 0 else content)
            try:
                assert all(size >= 0 for size in unpacked_sizes(path))
            except BadArrow:
                with pytest.raises(DataError, match="cannot be read as an Arrow file"):
                    read(path)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(b"")
    assert list(unpacked_sizes(tmp_path / "a.arrow")) == []
    content = io.BytesIO()
    with ipc.new_stream(content, TABLE.schema):
        pass
    (tmp_path / "a.arrow").write_bytes(content.getvalue())
    assert sum(unpacked_sizes(tmp_path / "a.arrow")) == 0
