import io

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
    assert image_header(content) == (3, 32, 48)
    decoded = decode_image(content, 3).transpose(1, 2, 0)
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind):
    deep = GRADIENT.astype(np.uint16) * 257
    content = saved(Image.fromarray(deep), kind)
    assert image_header(content) == (1, 4, 6)
    assert (decode_image(content, 1)[0] == GRADIENT).all()
    assert (decode_image(content, 3) == GRADIENT).all()


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
        (saved(Image.fromarray(GRADIENT.astype(np.float32)), "TIFF"), "floating-point"),
    ],
)
def test_reasons(content, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image(content, 1)


def test_a_missing_file():
    with pytest.raises(UnreadableImageError, match="No such file"):
        image_header("nowhere.png")
