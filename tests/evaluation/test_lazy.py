import subprocess
import sys


def test_importing_the_package_loads_no_optional_library() -> None:
    code = (
        "import sys, calotype.evaluation as evaluation\n"
        "assert 'torch' not in sys.modules\n"
        "[getattr(evaluation, name) for name in evaluation.__all__]\n"
        "assert not {'matplotlib', 'efficientnet_lite_pytorch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
