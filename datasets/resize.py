"""Change the size of images.

Axes: N images, H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize images with antialiasing; images of the right size are returned as they are.

    Args:
        images: (N, H, W, C) uint8.
        size: New height and width; the aspect ratio is not kept.

    Returns:
        (N, *size, C) uint8.
    """
    if images.shape[1:3] == size or len(images) == 0:
        return images.reshape(len(images), *size, images.shape[-1])
    import torch  # here, since whoever only copies images does without it
    import torch.nn.functional as F

    channels_first = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    resized = F.interpolate(channels_first, size=size, mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()
