import subprocess
import sys

import calotype.data


def test_everything_listed_is_there():
    assert all(hasattr(calotype.data, name) for name in calotype.data.__all__)


def test_emoji_is_the_function_even_where_its_module_was_imported_first():
    code = "import calotype.data.emoji; from calotype.data import emoji; assert callable(emoji)"
    subprocess.run([sys.executable, "-c", code], check=True)
