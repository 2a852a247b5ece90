"""A stand-in for the Hugging Face Hub: what of its package Keras and we call, on a folder."""

import fnmatch
import pathlib
import shutil
import types

import pytest


class Hub:
    """Repositories are folders; asks nothing of any network.

    Args:
        folder: Where it keeps the repositories, and the cache of what was downloaded.
        monkeypatch: pytest's; the package is put right in the end.
    """

    def __init__(self, folder, monkeypatch):
        package = pytest.importorskip("huggingface_hub")
        self.repositories, self.cache = folder / "repositories", folder / "cache"
        self.downloads = []
        hub = self

        class Api:
            def __init__(self, **about):
                self.create_repo, self.upload_folder = hub.create_repo, hub.upload_folder

        monkeypatch.setattr(package, "HfApi", Api)
        monkeypatch.setattr(package, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(package, "upload_file", self.upload_file)

    def create_repo(self, repo_id, exist_ok=False):
        (self.repositories / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return types.SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.repositories / repo_id, dirs_exist_ok=True)

    def upload_file(self, path_or_fileobj, path_in_repo, repo_id):
        shutil.copy(path_or_fileobj, self.repositories / repo_id / path_in_repo)

    def snapshot_download(self, repo_id, library_name, library_version=None, allow_patterns=("*",)):
        source, target = self.repositories / repo_id, self.cache / repo_id
        if not source.is_dir():
            raise ConnectionError(f"404 Client Error.\nThere is no {repo_id}")
        self.downloads.append(repo_id)
        for path in source.rglob("*"):
            name = path.relative_to(source).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, each) for each in allow_patterns):
                pathlib.Path(target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / name)
        return str(target)
