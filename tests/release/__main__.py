"""`python -m tests.release`: walk through the checklist of a release in this checkout."""

from __future__ import annotations

import sys

from tests.servers import ROOT

from .steps import Release, say, walk

release = Release(ROOT, ROOT / "build/release")
if walk(release):
    sys.exit(1)
say(f"Nothing was published. CONTRIBUTING.md says how to tag {release.tag} and to upload build/release/dist.")
