"""The pixels of a PNG file as screenshots have them: 8 bits a channel, RGB or RGBA, not interlaced. No library."""
import struct
import zlib


def unfilter(kind, row, above, channels):
    """One row of bytes after the filter of its kind (PNG specification, section 9) is undone."""
    for i, value in enumerate(row):
        left = row[i - channels] if i >= channels else 0
        up = above[i]
        if kind == 1:
            value += left
        elif kind == 2:
            value += up
        elif kind == 3:
            value += (left + up) // 2
        elif kind == 4:
            corner = above[i - channels] if i >= channels else 0
            estimate = left + up - corner
            distances = [abs(estimate - left), abs(estimate - up), abs(estimate - corner)]
            value += (left, up, corner)[distances.index(min(distances))]
        row[i] = value & 255
    return row


def read_png(path):
    """Width, height, and rows of (red, green, blue) tuples."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path} is no PNG file")
    at, compressed = 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        if zlib.crc32(name + chunk) != struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]:
            raise ValueError(f"{path}: chunk {name} is damaged")
        if name == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunk)
        elif name == b"IDAT":
            compressed += chunk
        at += 12 + length
    if depth != 8 or colour not in (2, 6) or interlaced:
        raise ValueError(f"{path}: depth {depth}, colour type {colour}, interlaced {interlaced} are not read")
    channels = 3 if colour == 2 else 4
    raw, stride, above, rows = zlib.decompress(compressed), width * channels, bytes(width * channels), []
    for y in range(height):
        start = y * (stride + 1)
        above = unfilter(raw[start], bytearray(raw[start + 1:start + 1 + stride]), above, channels)
        rows.append([tuple(above[i:i + 3]) for i in range(0, stride, channels)])
    return width, height, rows
