import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bisector.data.images import UnreadableImageError, decode_image, image_header

GRADIENT = np.linspace(0, 255, 6 * 4, dtype=np.uint8).reshape(4, 6)  # wider than high


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_comes_out_upright(orientation, kind):
    # The camera's file: the upright picture turned the other way, and a note of how to turn it back.
    pixels = np.kron(np.stack([GRADIENT] * 3, -1), np.ones((8, 8, 1), np.uint8))
    back = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(np.ascontiguousarray(back(pixels))), kind, exif=exif, quality=100)
    assert image_header(content) == (3, 32, 48, False)
    decoded = decode_image(content, 3).transpose(1, 2, 0)
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind):
    deep = GRADIENT.astype(np.uint16) * 257
    content = saved(Image.fromarray(deep), kind)
    assert image_header(content) == (1, 4, 6, True)
    assert (decode_image(content, 1)[0] == GRADIENT).all()
    assert (decode_image(content, 3) == GRADIENT).all()


def png16(values):  # (H, W, bands), as the specification of PNG has them: Pillow writes no colours of 16 bits
    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, bands = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(values, order, packed=False):  # (H, W, 3), little- ("<") or big-endian (">")
    height, width, bands = values.shape
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    pixels = values.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if packed else pixels
    pixels += bytes(len(pixels) % 2)
    tags = {
        256: width,
        257: height,
        258: 16,
        259: 8 if packed else 1,
        262: 2,
        273: 8,
        277: bands,
        278: height,
    }
    tags[279] = len(pixels)
    entries = b""
    for tag, value in sorted(tags.items()):
        if tag == 258:
            entries += struct.pack(f"{order}HHII", tag, 3, 3, 8 + len(pixels))
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(pixels) + len(bits))
    return start + pixels + bits + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


SMALL = np.array([[0, 1, 99], [100, 200, 255]])
DEEP = {
    "PNG of 16 bits": lambda v: saved(Image.fromarray(v.astype(np.uint16)), "PNG"),
    "TIFF of 16 bits": lambda v: saved(Image.fromarray(v.astype(np.uint16)), "TIFF"),
    "big-endian": lambda v: saved(Image.fromarray(v.astype(">u2")), "TIFF"),
    "32 bits": lambda v: saved(Image.fromarray(v.astype(np.int32)), "TIFF"),
    "floats": lambda v: saved(Image.fromarray(v.astype(np.float32)), "TIFF"),
    "PNG of 16-bit colours": lambda v: png16(np.stack([v] * 3, -1)),
    "PNG of 16-bit colours and alpha": lambda v: png16(np.stack([v] * 3 + [v * 0 + 65535], -1)),
    "PNG of 16-bit gray and alpha": lambda v: png16(np.stack([v, v * 0 + 65535], -1)),
    "TIFF of 16-bit colours": lambda v: tiff16(np.stack([v] * 3, -1), "<"),
    "compressed colours": lambda v: tiff16(np.stack([v] * 3, -1), "<", packed=True),
    "compressed big-endian colours": lambda v: tiff16(np.stack([v] * 3, -1), ">", packed=True),
    "big-endian colours": lambda v: tiff16(np.stack([v] * 3, -1), ">"),
}


@pytest.mark.parametrize("write", DEEP.values(), ids=DEEP)
def test_small_values_of_deep_images_do_not_turn_black(write):
    assert image_header(write(SMALL)).deep
    for values, given, expected in (
        (SMALL, None, SMALL),  # 8 bits in a deep file are what they are in a file of 8 bits
        (
            SMALL,
            (0.0, 4095.0),
            SMALL * 255 // 4095,
        ),  # by the scale of the data set, whatever this image holds
        (SMALL * 16, (0.0, 4095.0), SMALL * 16 * 255 // 4095),
        (SMALL * 257, (0.0, 65535.0), SMALL),
        (SMALL * 16, (100.0, 1120.0), np.clip((SMALL * 16 - 100) // 4, 0, 255)),
    ):
        decoded = decode_image(write(values), 3, pixel_range=given)
        assert (decoded == expected).all(), (values, given)


def test_transparency_of_deep_colours_lies_on_white():
    pixels = np.array([[[60000, 100, 7, 0], [60000, 25700, 257, 65535]]])
    assert decode_image(png16(pixels), 3, pixel_range=(0, 65535))[:, 0].T.tolist() == [
        [255, 255, 255],
        [233, 100, 1],
    ]


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_deep_images_are_turned_too(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(SMALL.astype(kind)), "TIFF", exif=exif)
    assert image_header(content) == (1, 3, 2, True)
    assert (decode_image(content, 1, pixel_range=(0, 255))[0] == np.rot90(SMALL, -1)).all()


def test_what_is_transparent_lies_on_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert decode_image(saved(image, "PNG"), 3)[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    gray = Image.merge("LA", [Image.new("L", (1, 1), 7), Image.new("L", (1, 1), 0)])
    assert image_header(saved(gray, "PNG"))[0] == 1
    assert decode_image(saved(gray, "PNG"), 1).item() == 255
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([1, 2, 3, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode_image(saved(palette, "PNG"), 3)[:, 0].T.tolist() == [[1, 2, 3], [200, 100, 50]]
    assert decode_image(saved(palette, "PNG", transparency=0), 3)[:, 0, 0].tolist() == [255] * 3


def test_bits_gray_and_print_colours():
    assert decode_image(saved(Image.fromarray(GRADIENT > 99), "PNG"), 1).max() == 255
    cmyk = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = decode_image(cmyk, 3).mean((1, 2))
    assert red > 240
    assert max(green, blue) < 15
    assert decode_image(saved(Image.new("YCbCr", (8, 8)), "JPEG"), 3).shape == (3, 8, 8)


def test_animations_give_their_first_picture():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(content, 3)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (64, 64), (5, 3), (1, 200)])
def test_the_middle_is_cut_out(size):
    width, height = size
    across = np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, 0)
    decoded = decode_image(saved(Image.fromarray(across), "PNG"), 1, 15)[0].astype(int)
    assert decoded.shape == (15, 15)
    shown = min(1, height / width) / 2  # half of the width that is seen
    middle = 127.5
    if width > 1:
        assert decoded[:, 0].mean() == pytest.approx(middle - 255 * shown * 14 / 15, abs=30)
        assert decoded[:, -1].mean() == pytest.approx(middle + 255 * shown * 14 / 15, abs=30)


def test_large_photographs_are_shrunk_without_jagged_edges():
    fine = np.indices((1024, 1024)).sum(0) % 2 * 255  # a chequered board that must become gray
    content = saved(Image.fromarray(fine.astype(np.uint8)), "JPEG", quality=95)
    small = decode_image(content, 1, 32)
    assert np.abs(small.astype(int) - 127).max() <= 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"no image", "not an image of a known kind"),
        (saved(Image.fromarray(GRADIENT), "PNG")[:50], "truncated|broken|cannot"),
        (saved(Image.fromarray(np.float32([[0, np.nan], [1, np.inf]])), "TIFF"), "2 of its 4 pixels are NaN"),
    ],
)
def test_reasons(content, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image(content, 1)


def test_a_missing_file():
    with pytest.raises(UnreadableImageError, match="No such file"):
        image_header("nowhere.png")
