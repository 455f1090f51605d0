"""A node for ComfyUI: a prompt to frames of a video.

Copy or link this folder into ComfyUI's ``custom_nodes`` and install the wheel into its environment.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

import deepforcing

try:  # ComfyUI's progress bar, where the node runs in it.
    from comfy.utils import ProgressBar
except ImportError:
    ProgressBar = None


class DeepForcingGenerate:
    """Long videos by deepforcing; ``IMAGE`` is float [n, height, width, 3] in 0..1, as all nodes of ComfyUI have it."""

    CATEGORY = "video/deepforcing"
    FUNCTION = "generate"
    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("frames", "fps")
    DESCRIPTION = "Turns a prompt into a long video, chunk by chunk."

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {
            "required": {
                "prompt": ("STRING", {"multiline": True, "default": "a red ball bouncing over green hills"}),
                "model": ("STRING", {"default": "toy", "tooltip": "a preset's name or a folder of model files"}),
                "seconds": ("FLOAT", {"default": 5.0, "min": 0.1, "max": 3600.0, "step": 0.5}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
            },
            "optional": {
                "policy": ("STRING", {"default": "", "tooltip": "cache policy; empty: the preset's"}),
                "width": ("INT", {"default": 0, "min": 0, "max": 4096, "step": 16, "tooltip": "0: the preset's"}),
                "height": ("INT", {"default": 0, "min": 0, "max": 4096, "step": 16}),
                "options": ("STRING", {"default": "", "tooltip": "other flags, one NAME=VALUE in a line"}),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, width: int = 0, height: int = 0) -> Any:
        """What ComfyUI asks before it runs anything."""
        if bool(width) != bool(height):
            return "give width and height, or neither"
        return True

    def generate(
        self,
        prompt: str,
        model: str,
        seconds: float,
        seed: int,
        policy: str = "",
        width: int = 0,
        height: int = 0,
        options: str = "",
    ) -> Tuple[Any, int]:
        import numpy
        import torch

        flags: Dict[str, Any] = {
            "model": model,
            "seconds": seconds,
            "seed": seed,
            "policy": policy or None,
            "size": (width, height) if width and height else None,
        }
        for line in filter(None, map(str.strip, options.splitlines())):
            name, equals, value = line.lstrip("-").partition("=")
            flags[name.strip().replace("-", "_")] = value.strip() if equals else True
        with deepforcing.generate(prompt, **flags) as video:
            bar = ProgressBar(video.frame_count) if ProgressBar is not None else None
            frames = numpy.empty((video.frame_count, video.height, video.width, 3), numpy.float32)
            for chunk in video:
                end = chunk.start + chunk.count
                numpy.divide(chunk.frames, 255.0, out=frames[chunk.start : end], casting="unsafe")
                if bar is not None:
                    bar.update_absolute(end, video.frame_count)
            return torch.from_numpy(frames), video.fps


NODE_CLASS_MAPPINGS = {"DeepForcingGenerate": DeepForcingGenerate}
NODE_DISPLAY_NAME_MAPPINGS = {"DeepForcingGenerate": "Deep Forcing: video from a prompt"}
