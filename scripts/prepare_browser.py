"""Get what `make test-browser` needs, and try it: a Chromium that starts, and onnxruntime-web.

    python scripts/prepare_browser.py

Ends with status 0 where the exported web page can be run, otherwise with 1 and one line that says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from playwright.sync_api import Error, sync_playwright

from kdsr.errors import UserError
from kdsr.export_targets import web_page

NAMES = ('chromium', 'google-chrome')  # of the browsers that the tests look for before Playwright's own
_SECONDS = 300


def find_obstacle() -> str:
    """Return why the page cannot be run in a browser; nothing where it can."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        command = [sys.executable, '-m', 'playwright', 'install', 'chromium']
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f'no Chromium is installed, and its download took more than {_SECONDS} s'
        if done.returncode:
            first = next(filter(None, (done.stderr or done.stdout).splitlines()), 'it says nothing')
            return f'no Chromium is installed, and Playwright cannot install one: {first}'
    try:
        with sync_playwright() as playwright:
            playwright.chromium.launch(executable_path=found, args=['--no-sandbox']).close()
    except Error as error:
        return f'Chromium does not start: {str(error).strip().splitlines()[0]}'
    os.environ.pop('XDG_CACHE_HOME', None)  # the tests look into the home folder, whatever this says
    try:
        web_page.runtime_files()
    except UserError as error:
        return str(error)
    return ''


def main() -> int:
    """Print the obstacle, if there is one."""
    obstacle = find_obstacle()
    if obstacle:
        sys.stderr.write(f'The web page cannot be run in a browser here: {obstacle}\n')
    return 1 if obstacle else 0


if __name__ == '__main__':
    sys.exit(main())
