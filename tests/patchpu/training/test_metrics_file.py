"""What a run that goes on reads of its epochs, and what it says of a damaged file."""

import math

import pytest

from keras_patchpu.utils.validation import FileError
from patchpu.training.metrics_file import read_metrics, score_of

pytestmark = pytest.mark.no_backend

COLUMNS = ("epoch", "loss", "val_mAP", "seconds")
TEXT = "epoch,loss,val_mAP,seconds\r\n1,2.5,0.25,9.5\r\n2,1.5,,8.0\r\n3,1.25,0.5,8.5\r\n"


def write(tmp_path, text):
    (tmp_path / "metrics.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "metrics.csv"


def test_reads_the_epochs_that_are_done(tmp_path):
    first, second = read_metrics(write(tmp_path, TEXT), 2, COLUMNS)
    assert first == {"epoch": 1, "loss": 2.5, "val_mAP": 0.25, "seconds": 9.5}
    assert math.isnan(second.pop("val_mAP"))
    assert second == {"epoch": 2, "loss": 1.5, "seconds": 8.0}
    assert read_metrics(tmp_path / "missing.csv", 0) == []


def test_what_is_not_known_is_below_every_score():
    assert score_of({"val_mAP": 0.0}, "val_mAP") == 0
    assert score_of({"val_mAP": math.nan}, "val_mAP") == score_of({}, "val_mAP") == -math.inf


def test_a_line_of_an_epoch_that_is_not_done_does_not_matter(tmp_path):
    assert len(read_metrics(write(tmp_path, TEXT[:-12] + "\0\xff"), 2, COLUMNS)) == 2


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "the file ends before it"),
        (TEXT.replace("val_mAP", "score"), 1, "columns, epoch, loss, val_mAP, seconds among them"),
        (TEXT.replace("loss", "epoch"), 1, "different names of columns"),
        (TEXT.replace("1.5,", ""), 3, "expected 4 cells, as the head has. It has 3"),
        (TEXT.replace("8.0", "8.0,1"), 3, "expected 4 cells, as the head has. It has 5"),
        (TEXT.replace("1.5", "1.5e"), 3, "could not convert string to float: '1.5e'"),
        (TEXT.replace("\r\n2", "\r\n7"), 3, "expected epoch 2 in the column epoch"),
        (TEXT.replace("\r\n2", "\r\n"), 3, "expected epoch 2 in the column epoch"),
        (TEXT.replace("2,1.5,,8.0\r\n", ""), 3, "expected epoch 2"),
        (TEXT.replace("1.5", '"1.5'), 3, "unexpected end of data"),
        (TEXT[: TEXT.index("8.0")], 3, "it is cut off, without a line end. Received: '2,1.5,,'"),
        (TEXT[: TEXT.index("3,")], 4, "the file ends before it"),
        (TEXT.encode().replace(b"1.5", b"\xff"), 3, "can't decode byte"),
    ],
)
def test_damage_is_named_with_its_line(text, line, what, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(FileError) as error:
        read_metrics(path, 3, COLUMNS)
    message = str(error.value)
    assert message.startswith(f"{path}, line {line}, is damaged: ") and what in message
    assert "write the 3 lines that it must have" in message and "\n" not in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match="metrics.csv, line 1, is damaged: the file ends before"):
        read_metrics(tmp_path / "metrics.csv", 1)
