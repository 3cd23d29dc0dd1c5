"""The five steps of the README in a project whose environment has only what the README installs."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.conftest import CHROMIUM_FLAGS, find_chromium
from tests.test_readme import ReadmeProject, watch_people


def follow_steps(programs: Path) -> None:
    """Make the project of the README with the programs of an environment, and watch its page in a browser.

    Raises:
        AssertionError: A step does not do what the README says.
    """
    project = ReadmeProject()
    project.programs = programs
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium() or None, args=CHROMIUM_FLAGS)
            project.build()
            watch_people(project, browser.new_page(), expect)
            browser.close()
    finally:
        project.close()
