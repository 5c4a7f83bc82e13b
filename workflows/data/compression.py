"""Compressed files back to their bytes, as far as they can be what somebody packed. `COMPRESSIONS` is the table."""

from __future__ import annotations

import io
from collections.abc import Callable

from trainables.errors import BadInput

# What is packed more tightly than any text is made to fill the memory of whoever opens it.
MOST_TIMES, ALWAYS_ALLOWED = 100, 64 * 2**20
# zstandard has no limit of its own: a few bytes may become 128 KiB, so it gets few bytes at once.
_PIECE = 2**12


def gunzip(content: bytes, most: int) -> bytes:
    import gzip

    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        return stream.read(most)


def bunzip(content: bytes, most: int) -> bytes:
    import bz2

    with bz2.BZ2File(io.BytesIO(content)) as stream:
        return stream.read(most)


def unxz(content: bytes, most: int) -> bytes:
    import lzma

    with lzma.LZMAFile(io.BytesIO(content)) as stream:
        return stream.read(most)


def unzstd(content: bytes, most: int) -> bytes:
    import zstandard

    # frame by frame, because zstandard's stream reader ends a file that is cut off without an error
    parts, size, position = [], 0, 0
    while position < len(content):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            piece = content[position : position + _PIECE]
            if not piece:
                raise EOFError("the file ends inside a frame")
            parts.append(frame.decompress(piece))
            size += len(parts[-1])
            if size >= most:
                return b"".join(parts)[:most]
            position += len(piece) - len(frame.unused_data)
    return b"".join(parts)


# Each takes the bytes of a file and how many bytes to give at most.
COMPRESSIONS: dict[str, Callable[[bytes, int], bytes]] = {".gz": gunzip, ".bz2": bunzip, ".xz": unxz, ".zst": unzstd}


def unpack(content: bytes, compression: str, where: str) -> bytes:
    """The bytes of a compressed file. Raises BadInput where it is not whole, or unpacks to far more than text does."""
    import lzma
    import zlib

    import zstandard

    most = max(MOST_TIMES * len(content), ALWAYS_ALLOWED)
    try:
        unpacked = COMPRESSIONS[compression](content, most + 1)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BadInput(f"{where}: not a whole {compression} file: {error}") from None
    if len(unpacked) > most:
        raise BadInput(
            f"{where}: its {len(content):,} bytes unpack to more than {most:,}, over {MOST_TIMES} times as many, which "
            "no text does; unpack it yourself if you trust it"
        )
    return unpacked
