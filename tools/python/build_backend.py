"""scikit-build-core; but an sdist has the sources of the library, too, which lie outside this folder in a checkout."""
import gzip
import io
import pathlib
import tarfile

import scikit_build_core.build
from scikit_build_core.build import *  # noqa: F403  (wheels and editable installs are its own)

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = ("CMakeLists.txt", "LICENSE", "tools/cmake", "runtime", "numa", "cpu", "lsh", "gpu")


def _without_owner(info):
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def build_sdist(sdist_directory, config_settings=None):
    """The library's sources go into library/, where pyproject.toml looks for them in an sdist."""
    name = scikit_build_core.build.build_sdist(sdist_directory, config_settings)
    if (HERE / "library").is_dir():  # this is an unpacked sdist: it has put them in itself
        return name
    path = pathlib.Path(sdist_directory, name)
    archive = io.BytesIO(gzip.decompress(path.read_bytes()))
    with tarfile.open(fileobj=archive, mode="a") as tar:
        for source in SOURCES:
            tar.add(HERE.parents[1] / source, f"{name.removesuffix('.tar.gz')}/library/{source}", filter=_without_owner)
    path.write_bytes(gzip.compress(archive.getvalue(), mtime=0))
    return name
