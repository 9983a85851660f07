"""Packaging of caffesplit. `pip install .` installs the core, `.[all]` most else."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "data": ["lmdb>=1.4", "scikit-learn>=1.2", "scipy>=1.9"],
    "hdf5": ["h5py>=3.8"],
    "report": ["plotly>=5.18", "jinja2>=3.1"],
}
EXTRAS["all"] = sorted({package for extra in EXTRAS.values() for package in extra})
EXTRAS["cluster"] = ["ray>=2.9"]
EXTRAS["leveldb"] = ["lmdb>=1.4", "plyvel>=1.4"]
EXTRAS["torch"] = ["h5py>=3.8", "lmdb>=1.4", "pillow>=9", "torch>=2.1"]
EXTRAS["dev"] = [
    "grpcio-tools>=1.60",
    "hypothesis>=6.90",
    "mypy>=1.8",
    "pandas>=2.0",
    "pytest>=8.0",
    "ruff>=0.6",
    "selenium>=4.20",
]

setup(
    name="caffesplit",
    version="0.1.0",
    description="Split the convolutions of Caffe nets by what their training reveals",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    python_requires=">=3.10",
    packages=find_packages(include=["caffesplit", "caffesplit.*"]),
    package_data={
        "caffesplit": [
            "py.typed",
            "formats/*.desc",
            "report/templates/*",
            "zoo/*/*.prototxt",
            "study/studies/*.toml",
        ]
    },
    install_requires=[
        "click>=8.1",
        "matplotlib>=3.7",
        "numpy>=1.24",
        "protobuf>=4.22",
        "rich>=13.0",
        "tomli>=2.0; python_version < '3.11'",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["caffesplit = caffesplit.cli.main:main"]},
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
