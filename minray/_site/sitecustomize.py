"""How do Python processes started from a shell learn that `ray` means minray?

Python imports `sitecustomize` at its start, from the first folder of PYTHONPATH that has one; `minray
as-ray` puts this folder there. Nothing of minray is imported before the first `import ray`, so that
other programs start as fast as ever. A `sitecustomize` further down the path, which this one hides,
runs as well.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


class _FirstImportOfRay:
    """Stands on sys.meta_path until somebody imports `ray`; then minray's own finder takes over."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        if fullname != "ray" and not fullname.startswith("ray."):
            return None
        sys.meta_path.remove(_FirstImportOfRay)
        try:
            from minray import as_ray
        except ModuleNotFoundError as error:
            if error.name != "minray":
                raise
            # This Python has no minray installed: use the one that this file belongs to.
            sys.path.append(os.path.dirname(os.path.dirname(_HERE)))
            from minray import as_ray
        as_ray.install()
        return sys.meta_path[0].find_spec(fullname, path, target)


def _run_hidden_sitecustomize() -> None:
    rest = [folder for folder in sys.path if os.path.abspath(folder or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("MINRAY_AS_RAY") == "1":
    sys.meta_path.insert(0, _FirstImportOfRay)
_run_hidden_sitecustomize()
