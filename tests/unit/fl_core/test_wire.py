"""What travels in messages comes out as it went in, in few objects, or is refused with the name of who sent it."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given
from hypothesis import strategies as st

from fl_core import wire
from fl_core.errors import WireError
from fl_core.questions import MODEL as MODEL_ITEM
from fl_core.questions import TRAIN, Question
from fl_core.records import decode_model

MODEL_BACK = Question("echo", "query.echo", (), MODEL_ITEM, "open")
MODEL = {f"layer{n}.weight": np.full((3, 5), n, np.float32) for n in range(20)}


def model_in(content: RecordDict, sender: str) -> dict[str, np.ndarray]:
    return decode_model(wire.unpack_reply(MODEL_BACK, content, sender), sender)


def test_a_model_comes_out_bit_for_bit_and_in_any_order_of_names_as_the_same_bytes():
    packed = wire.pack_tensors(MODEL)
    found = model_in(RecordDict(dict(packed)), "server")
    assert sorted(found) == sorted(MODEL)
    for name, tensor in MODEL.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)
    assert wire.pack_tensors(dict(reversed(MODEL.items()))) == packed


def test_a_tensor_that_lies_crosswise_in_memory_comes_out_as_it_reads():
    crosswise = np.arange(6, dtype=np.float32).reshape(2, 3).T
    found = model_in(RecordDict(dict(wire.pack_tensors({"w": crosswise}))), "server")
    np.testing.assert_array_equal(found["w"], crosswise)


def test_a_model_of_many_tensors_is_one_object():
    assert len(get_all_nested_objects(RecordDict(dict(wire.pack_tensors(MODEL))))) == 2  # it and the RecordDict


@given(st.binary(max_size=50), st.integers(1, 60))
def test_an_update_comes_out_of_any_number_of_pieces(data, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "PIECE_BYTES", size)
        content = wire.pack_reply(TRAIN, data)
    assert len(content) == max(1, -(-len(data) // size))
    assert wire.unpack_reply(TRAIN, content, "board") == data


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({}),
        RecordDict({"model.0": ArrayRecord([np.zeros(2)])}),
        RecordDict({"model.0": ConfigRecord({"bytes": "text"})}),
        RecordDict({"model.1": ConfigRecord({"bytes": b"second"})}),
    ],
)
def test_what_holds_no_model_is_refused_with_its_sender(content):
    with pytest.raises(WireError, match=r"message from board-7: expected a record 'model\.0' with bytes"):
        wire.unpack_reply(MODEL_BACK, content, "board-7")


def test_a_model_that_lacks_its_last_piece_is_refused(monkeypatch):
    monkeypatch.setattr(wire, "PIECE_BYTES", 100)
    pieces = dict(wire.pack_tensors(MODEL))
    pieces.popitem()
    with pytest.raises(WireError, match="message from server: tensors cannot be read"):
        model_in(RecordDict(pieces), "server")
