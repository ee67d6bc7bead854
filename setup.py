"""What pyproject.toml cannot say: the address of the repository from which a release is made."""

import os

from setuptools import setup

repository = os.environ.get("REPOSITORY_URL")
setup(
    script_name="setup.py",  # so that it is not taken for a module of the package
    project_urls={
        "Source": repository,
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    if repository
    else {},
)
