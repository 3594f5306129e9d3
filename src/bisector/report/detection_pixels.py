"""A picture as text that a page can hold."""

import base64
import io

from torch import Tensor

from bisector.errors import missing_extra

_SIDE = 520  # pixels of the longer side: what a column of the page shows, and something for sharp screens
_STEPS = ((1.0, 88), (1.0, 75), (1.0, 60), (0.6, 70), (0.6, 45), (0.35, 45))  # smaller and smaller


def data_uri(image: Tensor, most: int) -> str:
    """A JPEG as a data URI, coarser until it fits.

    Args:
        image: shape (3, H, W), uint8 RGB.
        most: bytes of the URI; the coarsest picture may have more.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("pillow", "train") from None
    picture = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    text = ""
    for share, quality in _STEPS:
        small = picture.copy()
        small.thumbnail((round(share * _SIDE), round(share * _SIDE)))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality, optimize=True)
        text = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(text) <= most:
            break
    return text
