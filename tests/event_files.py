"""An independent reader of TensorBoard's event files: one byte, one bit and one field at a time."""

from __future__ import annotations

import struct


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unmasked(masked: int) -> int:
    rotated = (masked - 0xA282EAD8) % (1 << 32)
    return (rotated >> 17 | rotated << 15) % (1 << 32)


def records(data: bytes) -> list[bytes]:
    """The payloads, their checksums checked."""
    found = []
    while data:
        header, (length,) = data[:8], struct.unpack("<Q", data[:8])
        payload = data[12 : 12 + length]
        sums = (*struct.unpack("<I", data[8:12]), *struct.unpack("<I", data[12 + length :][:4]))
        assert tuple(map(unmasked, sums)) == (crc32c(header), crc32c(payload))
        found.append(payload)
        data = data[16 + length :]
    return found


def fields(message: bytes) -> list[tuple[int, int | float | bytes]]:
    """A message's fields: number, and integer, double, float or bytes."""
    found: list[tuple[int, int | float | bytes]] = []
    while message:
        key, message = varint(message)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, message = varint(message)
            found.append((number, value))
        elif wire == 2:
            size, message = varint(message)
            found.append((number, message[:size]))
            message = message[size:]
        else:
            form, size = {1: ("<d", 8), 5: ("<f", 4)}[wire]
            found.append((number, struct.unpack(form, message[:size])[0]))
            message = message[size:]
    return found


def varint(data: bytes) -> tuple[int, bytes]:
    value = place = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << 7 * place
        place += 1
        if byte < 128:
            return value, data[place:]


def read(data: bytes) -> tuple[str, list[tuple[float, int, dict[str, object]]]]:
    """The version, and (wall time, step, tag → float or histogram) of every other event.

    A histogram is a mapping from field number to value, with its doubles (6, 7) as lists.
    """
    first, *others = (dict(fields(record)) for record in records(data))
    return first[3].decode(), [_event(event) for event in others]


def _event(event: dict[int, object]) -> tuple[float, int, dict[str, object]]:
    values = {}
    for _, encoded in fields(event[5]):
        value = dict(fields(encoded))
        values[value[1].decode()] = _histogram(value[5]) if 5 in value else value.get(2, 0.0)
    return event[1], event.get(2, 0), values


def _histogram(encoded: bytes) -> dict[int, object]:
    histogram = dict(fields(encoded))
    for number in (6, 7):
        packed = histogram[number]
        histogram[number] = list(struct.unpack(f"<{len(packed) // 8}d", packed))
    return histogram
