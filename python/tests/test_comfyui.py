"""The node as ComfyUI sees it: by import and a call."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

numpy = pytest.importorskip("numpy")


@pytest.fixture()
def node(monkeypatch):
    try:
        import torch  # noqa: F401
    except ImportError:
        # What the node uses of it.
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(from_numpy=numpy.asarray))
    path = Path(__file__).parent.parent / "comfyui" / "__init__.py"
    spec = importlib.util.spec_from_file_location("comfyui_deepforcing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_node_has_what_comfyui_asks_for(node):
    (name, kind), = node.NODE_CLASS_MAPPINGS.items()
    assert name in node.NODE_DISPLAY_NAME_MAPPINGS
    inputs = kind.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional", "hidden"}
    for group in inputs.values():
        for words in group.values():
            assert words[0] in {"STRING", "INT", "FLOAT", "BOOLEAN"} and isinstance(words[1], dict)
    assert callable(getattr(kind(), kind.FUNCTION)) and kind.CATEGORY
    assert len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
    assert kind.VALIDATE_INPUTS(width=96, height=96) is True
    assert isinstance(kind.VALIDATE_INPUTS(width=96, height=0), str)


def test_a_call_gives_frames_as_nodes_exchange_them(node):
    kind = node.DeepForcingGenerate
    defaults = {
        name: words[1]["default"] for group in kind.INPUT_TYPES().values() for name, words in group.items()
    }
    given = {**defaults, "seconds": 0.5, "width": 96, "height": 96, "options": "policy=fifo\n--no-memory-check"}
    frames, fps = getattr(kind(), kind.FUNCTION)(**{**given, "policy": ""})
    frames = numpy.asarray(frames)
    assert frames.dtype == numpy.float32 and frames.shape[1:] == (96, 96, 3) and fps == 16
    assert 0 <= frames.min() < frames.max() <= 1
