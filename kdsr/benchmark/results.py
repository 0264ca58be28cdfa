"""What a benchmark does and finds: tasks, and the scores of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdsr.data.benchmark_sets import BenchmarkSet
from kdsr.networks.candidates import Candidate


@dataclass(frozen=True)
class Task:
    """One candidate, and one set to score it on."""

    candidate: Candidate
    test_set: BenchmarkSet


@dataclass(frozen=True)
class ImageScore:
    """PSNR in dB and SSIM of one image.

    Attributes:
        image: Its name without ending.
        psnr: Of the candidate.
        ssim: Of the candidate.
        bicubic: PSNR of MATLAB's bicubic upsampling, which the first images of a set are compared with; else None.
        others: The values of other metrics, by name.
    """

    image: str
    psnr: float
    ssim: float
    bicubic: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SetScores:
    """The scores of one candidate on one set.

    Attributes:
        model: Name of the candidate.
        scale: S.
        set_name: Name of the set.
        lr_origin: Where the LR images come from, in words.
        crop: The sides of the scored images are multiples of this number: the scale, or 12 for `GTmod12`.
        source: File of the weights.
        fingerprint: SHA-256 of that file.
        parameters: Number of parameters; None for bicubic, and for ONNX files that do not state it.
        luminance: Whether the network takes one channel, Y.
        quadrants: Whether the images were run in four quarters.
        seconds: Time for the set, with reading and scoring.
        images: The scores of each image.
        privileged: Whether its input is the ground truth, as that of PISR's teachers.
    """

    model: str
    scale: int
    set_name: str
    lr_origin: str
    crop: int
    source: str
    fingerprint: str
    parameters: int | None
    luminance: bool
    quadrants: bool
    seconds: float
    images: tuple[ImageScore, ...]
    privileged: bool = False

    @property
    def psnr(self) -> float:
        """The mean over the images, in dB."""
        return sum(one.psnr for one in self.images) / len(self.images)

    @property
    def lost_to_bicubic(self) -> float:
        """How much bicubic upsampling is better on the images that were compared with it, in dB; below 0: worse."""
        pairs = [(one.bicubic, one.psnr) for one in self.images if one.bicubic is not None]
        return sum(bicubic - psnr for bicubic, psnr in pairs) / len(pairs) if pairs else 0.0

    @property
    def ssim(self) -> float:
        """The mean over the images."""
        return sum(one.ssim for one in self.images) / len(self.images)

    def mean_of(self, metric: str) -> float:
        """Return the mean of another metric over the images."""
        return sum(one.others[metric] for one in self.images) / len(self.images)
