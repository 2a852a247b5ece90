"""The images that paths, folders, patterns and tables stand for."""

import pytest

from keras_patchpu.datasets import list_images

pytestmark = pytest.mark.no_backend


def test_files_folders_and_patterns(tmp_path, monkeypatch):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/2.gif", "b/1.WEBP", "b/notes.txt", "a.bmp"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert list_images(["."]) == ["./a.bmp", "./b/1.WEBP", "./b/c/2.gif"]
    assert list_images(["**/*.gif"]) == ["b/c/2.gif"]
    assert list_images(["b/*"]) == ["b/1.WEBP", "b/notes.txt"]  # a pattern means what it says
    # Each once, under the name it was met by first, in the order of the arguments.
    assert list_images(["b/c", "a.bmp", "."]) == ["b/c/2.gif", "a.bmp", "./b/1.WEBP"]
    # The pictures of a run before this one are no images of this one.
    assert list_images(["."], overlays="b/c") == ["./a.bmp", "./b/1.WEBP"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_list_images_of_a_table(tmp_path, kind):
    if kind == "csv":
        text = '\ufeffid,image\n1,a.jpg\n2,"x/b, c.jpg"\n3,a.jpg\n'
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pyarrow.table({"image": ["a.jpg", "x/b, c.jpg", "a.jpg"]}), tmp_path / "t.parquet"
        )
    assert list_images([str(tmp_path / f"t.{kind}")]) == [
        str(tmp_path / "a.jpg"),
        str(tmp_path / "x/b, c.jpg"),
    ]


def test_list_images_refuses(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.csv").write_text("picture\na.jpg\n")
    (tmp_path / "gap.csv").write_text("image,x\na.jpg,1\n,2\n")
    (tmp_path / "out.csv").write_text("image\n../a.jpg\n")
    for name, message in [
        ("empty", "Received: .*empty"),
        ("none.jpg", "Received: .*none.jpg"),
        ("*.jpg", r"Received: .*\*.jpg"),
        ("no.csv", "column `image`. Received the header: picture"),
        ("gap.csv", "row 3: expected the path of an image in `image`. It is missing"),
        ("out.csv", "row 2: expected a path inside the folder of the table. Received: ../a.jpg"),
    ]:
        with pytest.raises(ValueError, match=message):
            list_images([str(tmp_path / name)])
    found = list_images([str(tmp_path / "out.csv")], allow_outside=True)
    assert found == [str(tmp_path / "../a.jpg")]
