"""The table of targets: what each is for, what it needs, and how its images are given to it."""

from __future__ import annotations

from dataclasses import dataclass

from kdsr.optional_packages import is_installed
from kdsr.wording import installing

_NCHW = '(N, C, h, w), float32 in [0, 1]; RGB, or Y of BT.601 for networks on luminance; not clamped'
_ANY = 'sides of any length (multiple 1)'


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        reads: What reads it.
        files: Their names.
        preprocessing: Layout, range, channel order, and what sides must be multiples of; `{multiple}` stands for what
            the network itself needs.
        packages: Which must be installed to write it.
        extra: Of kdsr, which installs them.
        rgb: It takes RGB whatever the network takes.
    """

    reads: str
    files: str
    preprocessing: str
    packages: tuple[str, ...] = ()
    extra: str = 'export'
    rgb: bool = False

    def missing(self) -> str:
        """Return what has to be done before this target can be written; '' for nothing."""
        absent = [package for package in self.packages if not is_installed(package)]
        return f'{", ".join(absent)} missing: {installing(self.extra)}' if absent else ''


TARGETS = {
    'onnx': Target(
        'onnxruntime and other runtimes; `kdsr upscale`',
        '`NAME.onnx`, opset 20',
        f'`lq`: {_NCHW}; {_ANY}',
        ('onnx', 'onnxruntime'),
    ),
    'safetensors': Target(
        '`kdsr upscale`; with its options, wherever a checkpoint is expected',
        "`NAME.safetensors`, the weights in the network's own names",
        f'as the network in PyTorch: {_NCHW}; sides that are multiples of {{multiple}}',
    ),
    'torchscript': Target('`torch.jit.load`, libtorch', '`NAME.torchscript.pt`', f'{_NCHW}; {_ANY}'),
    'pt2': Target('`torch.export.load`', '`NAME.pt2`', f'{_NCHW}; {_ANY}'),
    'openvino': Target(
        'OpenVINO; compute in `f32` for the last bits (its default is bf16 where the processor has it)',
        '`NAME.xml` and `NAME.bin`',
        f'`lq`: {_NCHW}; {_ANY}',
        ('openvino', 'onnx'),
        'openvino',
    ),
    'ncnn': Target(
        'Upscayl (custom models), realesrgan-ncnn-vulkan (`-m FOLDER -n NAME`), phones',
        '`ncnn/NAME-x4.param` and `.bin`, and the same with `-fp16`',
        'blob `data`: (3, h, w) RGB, float32 in [0, 1], no batch; blob `output`: (3, S*h, S*w), not clamped; '
        'sides of any length from 2 on (multiple 1)',
        ('pnnx', 'ncnn'),
        'ncnn',
        rgb=True,
    ),
    'coreml': Target(
        "Core ML of Apple's systems (iOS 16, macOS 13 and newer)",
        '`NAME.mlpackage`; converted and checked in its structure, not run here',
        '`lq`: (1, 3, h, w) RGB, float32 in [0, 1], sides of 2 to 4096 (multiple 1); `sr`: not clamped',
        ('coremltools',),
        'coreml',
        rgb=True,
    ),
    'spandrel': Target(
        'spandrel, and with it chaiNNer and ComfyUI: RCAN, SwinIR, SRVGGNetCompact and RRDBNet',
        '`NAME_spandrel.safetensors`',
        '(N, 3, h, w) RGB, float32 in [0, 1]; not clamped; spandrel pads to multiples of {multiple}',
        ('spandrel',),
        'spandrel',
    ),
    'web': Target(
        'any browser of today: `cd NAME_web`, `python -m http.server`',
        '`NAME_web/`: `index.html`, `model.onnx`, onnxruntime-web',
        'image files that the browser reads; inside: `lq` (1, 3, h, w) RGB, float32 in [0, 1], in tiles; any size '
        '(multiple 1)',
        ('onnx', 'onnxruntime'),
        rgb=True,
    ),
}


def writable_targets() -> list[str]:
    """Return the targets whose packages are installed, in the order of the table."""
    return [name for name, target in TARGETS.items() if not target.missing()]
