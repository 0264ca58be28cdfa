"""Package metadata. `requirements.txt` pins the tested set; the ranges here are what the code is written for."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
OPTIONAL = {
    'plots': ['matplotlib>=3.6'],
    'spandrel': ['spandrel>=0.4.2'],
    'completion': ['shtab>=1.6'],
    'export': ['onnx>=1.16', 'onnxruntime>=1.18'],
    'docs': ['sphinx>=7.3', 'furo>=2024.8.6', 'myst-parser>=3.0', 'latex2mathml>=3.77'],
}
TARGETS = {  # not in `dev`: the tests of these targets are skipped without them
    'openvino': ['openvino>=2024.0', 'onnx>=1.16'],
    'coreml': ['coremltools>=9.0'],
    'ncnn': ['ncnn>=1.0.20260114', 'pnnx>=20260114'],
    'pyiqa': ['pyiqa>=0.1.16'],
}
CHECKS = ['pytest', 'pytest-xdist', 'pytest-timeout', 'ruff', 'mypy', 'types-PyYAML', 'packaging', 'setuptools>=77']


class BuildWithOptions(build_py):
    """Put the option files into the package; an editable install reads those of the checkout."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(ROOT / 'options', Path(self.build_lib) / 'kdsr' / 'option_files', dirs_exist_ok=True)


setup(
    name='kdsr',
    version='0.1.0',
    description='Knowledge distillation for image super-resolution, as a plugin for BasicSR',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    cmdclass={'build_py': BuildWithOptions},
    packages=find_packages(include=['kdsr', 'kdsr.*']),
    package_data={
        'kdsr.comparison': ['templates/*.html'],
        'kdsr.cost': ['*.csv'],
        'kdsr.export_targets': ['web/*'],
        'kdsr.papers': ['*.csv'],
        'kdsr.zoo': ['*.safetensors', '*.md'],
    },
    python_requires='>=3.10',
    install_requires=[
        'basicsr>=1.4.2,<2',
        'torch>=2.8',
        'torchvision>=0.23',
        'numpy>=1.22',
        'scipy>=1.11.1',
        'opencv-python>=4.6.0.66',
        'pyyaml>=6.0',
        'lmdb>=1.3',
        'pillow>=10.3',
        'tifffile>=2024.8.30',
        'PyWavelets>=1.3',
        'tqdm>=4.66',
        'safetensors>=0.4',
        'jinja2>=3.0',
        'filelock>=3.12',
    ],
    extras_require={
        **OPTIONAL,
        **TARGETS,
        'dev': [*(package for extra in OPTIONAL.values() for package in extra), *CHECKS],
    },
    entry_points={'console_scripts': ['kdsr=kdsr.cli:main']},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
)
