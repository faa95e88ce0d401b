"""Whether an ONNX file keeps weights outside itself, which would have this machine read files of its own.

Walks the protocol buffer (onnx.proto, by its field numbers) to the tensors, and looks at nothing else.
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
KEY_BYTES = 5  # of a field's key, at most
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of TensorProto
# The fields of each message that lead to tensors.
INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def has_external_data(model: bytes) -> bool:
    """Raises ValueError for what is no protocol buffer."""
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, message = waiting.pop()
        for field, wire, value in _fields(message):
            if kind == "tensor":
                if field == EXTERNAL_DATA or (field == DATA_LOCATION and wire == VARINT and value):
                    return True
            elif field in INSIDE[kind] and isinstance(value, memoryview):
                waiting.append((INSIDE[kind][field], value))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int, "int | memoryview"]]:
    """(field, wire type, value) of each."""
    at = 0
    while at < len(message):
        began, (key, at) = at, _varint(message, at)
        field, wire = key >> 3, key & 7
        if at - began > KEY_BYTES or key >= 1 << 32 or not field:  # readers differ in what they make of those
            raise ValueError("the file is no ONNX file: it has a field that none can have")
        if wire == VARINT:
            value, at = _varint(message, at)
            yield field, wire, value
            continue
        length, at = _varint(message, at) if wire == BYTES else ({FIXED64: 8, FIXED32: 4}.get(wire, -1), at)
        if length < 0 or at + length > len(message):
            raise ValueError("the file is no ONNX file: it is cut off or damaged")
        yield field, wire, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number there, and where the next field begins."""
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("the file is no ONNX file: it is cut off or damaged")
