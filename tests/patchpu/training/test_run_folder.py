"""What a run folder says of where its code came from."""

import subprocess

from patchpu.training import run_folder


def git(folder, *arguments):
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *own, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_package_and_not_of_what_it_is_installed_in(
    tmp_path, monkeypatch
):
    """As of an environment, ignored by git, in the folder of somebody's project."""
    project, package = tmp_path / "project", tmp_path / "project" / "venv" / "keras_patchpu"
    package.mkdir(parents=True)
    (package / "run_folder.py").write_text("")
    (project / "own.py").write_text("")
    git(project, "init", "--quiet")
    git(project, "add", "own.py")
    git(project, "commit", "--quiet", "--message", "own")
    monkeypatch.setattr(run_folder, "__file__", str(package / "run_folder.py"))
    (project / "own.py").write_text("changed")
    found = run_folder._environment()
    assert (found["commit"], found["uncommitted_changes"]) == (None, False)

    git(project, "add", "venv")
    git(project, "commit", "--quiet", "--message", "with the package")
    found = run_folder._environment()
    assert found["commit"] == git(project, "rev-parse", "HEAD") and len(found["commit"]) == 40
    assert not found["uncommitted_changes"]
    (package / "run_folder.py").write_text("changed")
    assert run_folder._environment()["uncommitted_changes"]
