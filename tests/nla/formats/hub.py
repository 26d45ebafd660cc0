"""A local stand-in of the hub: repositories are folders, and what is downloaded is written down."""

import fnmatch
import shutil
from pathlib import Path

import huggingface_hub
import pytest


class Hub:
    """Replaces the functions of ``huggingface_hub`` that are used."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.repositories, self.downloaded = cache, {}, []
        self.private, self.refuses = None, False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Hub":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", self.list_repo_files)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.private = private
        self.repositories.setdefault(repo_id, self.cache.parent / "uploaded" / repo_id)
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        assert commit_message
        if self.refuses:
            raise OSError("403 Forbidden\nmore lines")
        shutil.copytree(folder_path, self._folder(repo_id), dirs_exist_ok=True)

    def list_repo_files(self, repo_id: str) -> list[str]:
        folder = self._folder(repo_id)
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def snapshot_download(self, repo_id, *, allow_patterns=None, ignore_patterns=None, local_files_only=False) -> str:
        folder, target = self._folder(repo_id), self.cache / repo_id
        for name in self.list_repo_files(repo_id):
            wanted = allow_patterns is None or any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns or ()):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name, target / name)
                self.downloaded.append(f"{repo_id}/{name}")
        return str(target)

    def _folder(self, repo_id: str) -> Path:
        if repo_id not in self.repositories:
            import httpx
            from huggingface_hub.errors import RepositoryNotFoundError

            request = httpx.Request("GET", f"https://huggingface.co/{repo_id}")
            raise RepositoryNotFoundError("404: no such repository", response=httpx.Response(404, request=request))
        return self.repositories[repo_id]
