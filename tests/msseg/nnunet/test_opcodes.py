"""Hostile and damaged checkpoints: refused with the name of what was found, and nothing of them is run."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msseg.errors import CheckpointError
from msseg.nnunet.archive import open_archive
from msseg.nnunet.checkpoint import read_fold

END = b"."


def short_text(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def tensor_pickle(elements: int, shape: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    """A pickle of one tensor on the storage data/0 of float32."""
    count = b"J" + struct.pack("<i", elements)
    storage = b"(" + short_text("storage") + b"ctorch\nFloatStorage\n" + short_text("0") + short_text("cpu") + count
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQ" + offset + shape + stride + b"\x89}tR."


@pytest.fixture
def write_zip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint's container around a pickle; `more` are further entries by name."""

    def write(pickled: bytes, more: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "checkpoint_final.pth"
        with zipfile.ZipFile(path, "w", compression) as zipped:
            zipped.writestr("archive/data.pkl", pickled)
            for name, content in (more or {}).items():
                zipped.writestr(name, content)
        return path

    return write


class Touch:
    """Its pickle makes a file where it is run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_command_in_a_checkpoint_is_named_and_not_run(tmp_path: Path, protocol: int):
    marker, path = tmp_path / "was_run", tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": Touch(marker), "init_args": {}}, path, pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r"the name (posix|nt)\.system"):
        read_fold(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the crafted file does nothing, so that the test shows nothing"


HOSTILE = {
    "a name from the stack": (b"\x80\x04" + short_text("os") + short_text("system") + b"\x93" + END, "os.system"),
    "an attribute of an admitted name": (
        b"\x80\x04" + short_text("collections") + short_text("OrderedDict.fromkeys") + b"\x93" + END,
        "collections.OrderedDict.fromkeys",
    ),
    "a module inside an admitted one": (
        b"\x80\x04" + short_text("torch") + short_text("_utils._rebuild_tensor_v2") + b"\x93" + END,
        "torch._utils._rebuild_tensor_v2",
    ),
    "a name made of numbers": (b"\x80\x04K\x01K\x02\x93" + END, "a name that is not a text"),
    "evaluated text": (b"cbuiltins\neval\n(U\x011tR" + END, "builtins.eval"),
    "the getter of attributes": (b"cbuiltins\ngetattr\n" + END, "builtins.getattr"),
    "torch's own loader": (b"ctorch\nload\n" + END, "torch.load"),
    "a stored pickle": (b"cnumpy\nload\n" + END, "numpy.load"),
    "an instance by INST": (b"(S'ls'\nios\nsystem\n" + END, "STRING"),
    "an instance by OBJ": (b"(ctorch\ndevice\no" + END, "OBJ"),
    "an instance by NEWOBJ": (b"\x80\x02ctorch\ndevice\n)\x81" + END, "NEWOBJ"),
    "a registered extension": (b"\x80\x02\x82\x01" + END, "EXT1"),
    "a state for a foreign object": (b"\x80\x02ctorch\ndevice\n}b" + END, "a state for a value of the kind Global"),
    "a state for a number": (b"K\x01}b" + END, "a state for a value of the kind int"),
    "a state of a numpy type with fields": (
        b"\x80\x02cnumpy\ndtype\n" + short_text("f4") + b"\x89\x88\x87R(K\x03" + short_text("<") + b"]NNtb" + END,
        "a numpy type of more",
    ),
    "numpy objects": (b"cnumpy\ndtype\n" + short_text("O8") + b"\x85R" + END, "a numpy type of other things"),
    "a call of a storage type": (b"\x80\x02ctorch\nFloatStorage\nK\x04\x85R" + END, "a call of a type"),
    "a call of a text": (short_text("os") + b")R" + END, "a call of what is no name"),
    "an encoding with another codec": (
        b"\x80\x02c_codecs\nencode\n" + short_text("x") + short_text("zip") + b"\x86R" + END,
        "an encoding of other things",
    ),
    "a reference to another thing outside": (b"\x80\x02" + short_text("module") + b"Q" + END, "a reference outside"),
    "a list as a key": (b"}]K\x01s" + END, "a dictionary's key of the kind list"),
    "items for a text": (short_text("x") + b"K\x01a" + END, "fills a list where there is none"),
    "a memory of nothing": (b"h\x07" + END, "a reference to the value 7"),
    "too little on the stack": (b"\x85" + END, "takes more than was put down"),
    "a closing without an opening": (b"t" + END, "closes what none has opened"),
    "no end": (b"\x80\x02K\x01", "STOP"),
    "no pickle": (b"\xff\xfe", "opcode"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_plain_data_is_named(name: str, write_zip: Callable[..., Path]):
    pickled, found = HOSTILE[name]
    with pytest.raises(CheckpointError) as error, open_archive(write_zip(pickled)) as archive:
        archive.data()
    assert found in str(error.value)
    assert "checkpoint_final.pth" in str(error.value)
    assert "Nothing in the file was run" in str(error.value)


def test_plain_data_of_every_protocol_is_read_as_it_is(write_zip: Callable[..., Path]):
    value = {"a": [1, -5, 300, 1 << 40, 1.5, None, True, False], "b": ((), (1,), (1, 2), (1, 2, 3, 4)), "c": {}, 3: "é"}
    shared = [1]
    value["d"] = [shared, shared, b"bytes", "x" * 300]
    for protocol in (2, 3, 4, 5):
        kept = value if protocol > 2 else {**value, "d": "bytes are a call in protocol 2"}
        with open_archive(write_zip(pickle.dumps(kept, protocol))) as archive:
            assert archive.data() == kept


def test_a_tensor_is_a_view_of_its_storage(write_zip: Callable[..., Path]):
    numbers = struct.pack("<6f", *range(6))
    # Offset 1, shape (2, 2), stride (2, 1): rows 1 2 and 3 4.
    pickled = tensor_pickle(6, b"K\x02K\x02\x86", b"K\x02K\x01\x86", b"K\x01")
    with open_archive(write_zip(pickled, {"archive/data/0": numbers})) as archive:
        assert archive.tensor(archive.data()).tolist() == [[1.0, 2.0], [3.0, 4.0]]


TOO_LARGE = {
    "more than is stored": tensor_pickle(6, b"K\x07\x85", b"K\x01\x85"),
    "a view beyond the end": tensor_pickle(6, b"K\x03\x85", b"K\x03\x85"),
    "an offset beyond the end": tensor_pickle(6, b"K\x01\x85", b"K\x01\x85", b"K\x06"),
    "one number shown a billion times": tensor_pickle(6, b"J\x00\xca\x9a\x3b\x85", b"K\x00\x85"),
    "a negative stride": tensor_pickle(6, b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
    "shapes that do not pair": tensor_pickle(6, b"K\x02\x85", b"K\x01K\x01\x86"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(name: str, write_zip: Callable[..., Path]):
    with pytest.raises(CheckpointError, match="tensor"), open_archive(write_zip(TOO_LARGE[name])) as archive:
        archive.data()


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(write_zip: Callable[..., Path]):
    pickled = tensor_pickle(2_000_000_000, b"K\x01\x85", b"K\x01\x85")
    with open_archive(write_zip(pickled, {"archive/data/0": b"1234"})) as archive:
        ref = archive.data()
        with pytest.raises(CheckpointError, match="data/0: found 4 bytes, expected 8000000000"):
            archive.tensor(ref)


@pytest.mark.parametrize("name", ["../../etc/evil", "/etc/passwd", "archive/../../evil", "archive/data/../../x", "x"])
def test_an_entry_that_leads_elsewhere_is_refused(name: str, write_zip: Callable[..., Path], tmp_path: Path):
    path = write_zip(b"N.", {name: b"x"})
    with pytest.raises(CheckpointError, match="which no checkpoint of torch does"), open_archive(path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_final.pth"]


def test_a_compressed_container_is_refused_before_it_is_unpacked(write_zip: Callable[..., Path]):
    bomb = write_zip(b"N.", {"archive/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="compressed"), open_archive(bomb):
        pass


def test_an_entry_larger_than_the_file_is_refused(write_zip: Callable[..., Path]):
    path = write_zip(b"N.", {"archive/data/0": b"12345678"})
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 20 : central + 28] = struct.pack("<2I", 1 << 30, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="larger than the file"), open_archive(path):
        pass


def test_the_same_entry_twice_is_refused(tmp_path: Path):
    path = tmp_path / "checkpoint_final.pth"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("one/data.pkl", b"N.")
        zipped.writestr("two/data.pkl", b"N.")
    with pytest.raises(CheckpointError, match="doubled"), open_archive(path):
        pass


def test_damaged_numbers_are_found(write_zip: Callable[..., Path]):
    path = write_zip(tensor_pickle(2, b"K\x02\x85", b"K\x01\x85"), {"archive/data/0": b"ABCDEFGH"})
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"ABCDEFGX"))
    with open_archive(path) as archive, pytest.raises(CheckpointError, match="data/0 cannot be read"):
        archive.tensor(archive.data())


def test_a_checkpoint_cut_short_is_said_to_be(tmp_path: Path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        read_fold(path)


def test_torchs_old_format_is_named(tmp_path: Path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {}}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="old format"):
        read_fold(path)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_fold(tmp_path / "checkpoint_final.pth")


def test_numbers_of_the_other_byte_order_are_refused(write_zip: Callable[..., Path]):
    path = write_zip(b"N.", {"archive/byteorder": b"big"})
    with pytest.raises(CheckpointError, match="big-endian"), open_archive(path):
        pass


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]
)
def test_tensors_of_every_type_come_back_as_torch_saved_them(dtype: torch.dtype, tmp_path: Path):
    path = tmp_path / "x.pth"
    saved = torch.arange(12).reshape(3, 4).to(dtype)
    torch.save(
        [saved, saved.T, saved[1:, 2], saved[:0], torch.tensor(3).to(dtype), torch.nn.Parameter(torch.ones(2))], path
    )
    with open_archive(path) as archive:
        *read, parameter = [archive.tensor(ref) for ref in archive.data()]
    assert all(torch.equal(a, b) for a, b in zip(read, [saved, saved.T, saved[1:, 2], saved[:0]], strict=False))
    assert parameter.tolist() == [1, 1]


def test_reading_holds_no_more_than_the_pickle_says(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"network_weights": {}, "init_args": {"configuration": "2d"}}, buffer)
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="network_weights"):
        read_fold(path)
