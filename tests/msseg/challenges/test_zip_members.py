import stat
import zipfile

import pytest

from msseg.challenges import zip_members as module
from msseg.challenges.zip_members import member_names, pack, zip_members


def make_zip(path, members):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_what_is_packed_comes_back_and_equal_files_make_equal_archives(tmp_path):
    for name in ("a.nii.gz", "b.nii"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    files = [(f"folder/{name}", tmp_path / name) for name in ("a.nii.gz", "b.nii")]
    assert pack(tmp_path / "one.zip", files) == pack(tmp_path / "two.zip", files) == 2
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    infos, faults = zip_members(tmp_path / "one.zip")
    assert [info.compress_type for info in infos] == [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] and faults == []
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.read("folder/b.nii") == b"b.nii" * 100


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "b/../../a", "b\\a", "C:a", "a\nb"])
def test_a_name_that_leads_out_of_its_folder_is_a_fault_and_its_member_is_not_read(tmp_path, name):
    infos, (fault,) = zip_members(make_zip(tmp_path / "s.zip", [(name, b""), ("fine", b"")]))
    assert [info.filename for info in infos] == ["fine"] and "leads out" in fault.found
    assert "\n" not in str(fault)


def test_a_link_is_a_fault(tmp_path):
    infos, (fault,) = zip_members(make_zip(tmp_path / "s.zip", [(link("a.nii.gz"), b"/etc/passwd")]))
    assert infos == [] and fault.found == "a link or special file" and fault.member == "a.nii.gz"


def test_folders_are_left_out(tmp_path):
    infos, faults = zip_members(make_zip(tmp_path / "s.zip", [("folder/", b""), ("folder/a", b"")]))
    assert [info.filename for info in infos] == ["folder/a"] and faults == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_one_fault(tmp_path):
    infos, (fault,) = zip_members(make_zip(tmp_path / "s.zip", [("a", b"1"), ("a", b"2")]))
    assert infos == [] and fault.found == "2 members of one name"


def test_an_encrypted_member_is_a_fault(tmp_path):
    path = make_zip(tmp_path / "s.zip", [("a", b"1")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert [fault.found for fault in zip_members(path)[1]] == ["an encrypted member"]


def test_an_unusual_compression_is_a_fault(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"1")
    assert zip_members(tmp_path / "s.zip")[1][0].found == "compression method 14"


@pytest.mark.parametrize(
    ("limit", "found"),
    [("MOST_MEMBERS", "3 members"), ("MOST_BYTES", "30 bytes unpacked"), ("MOST_MEMBER_BYTES", "10 bytes")],
)
def test_more_than_any_submission_has_is_not_read(tmp_path, monkeypatch, limit, found):
    monkeypatch.setattr(module, limit, 2)
    infos, faults = zip_members(make_zip(tmp_path / "s.zip", [(name, b"0123456789") for name in "abc"]))
    assert infos == [] and faults[0].found == found


def test_members_that_share_their_bytes_are_a_bomb(tmp_path):
    path = make_zip(tmp_path / "s.zip", [(name, b"0" * 300) for name in "ab"])
    data = bytearray(path.read_bytes())
    size = (20000).to_bytes(4, "little")
    first = data.index(b"PK\x01\x02")
    data[first + 20 : first + 24] = size
    path.write_bytes(data)
    infos, (fault,) = zip_members(path)
    assert infos == [] and "share" in fault.found


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all"])
def test_what_is_no_zip_file_is_one_fault(tmp_path, content):
    (tmp_path / "s.zip").write_bytes(content)
    infos, (fault,) = zip_members(tmp_path / "s.zip")
    assert infos == [] and fault.found.startswith("no readable zip file")
    assert member_names(tmp_path / "s.zip") == []
