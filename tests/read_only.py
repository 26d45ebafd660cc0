"""A folder that nobody can write to, root included."""

import shutil
import subprocess
import tempfile

import pytest


@pytest.fixture
def read_only_folder(tmp_path):
    """Permissions are enough for ordinary users; root needs a file system that is read-only."""
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        yield folder
        folder.chmod(0o755)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("a read-only folder for root needs a mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607
